"""Acts on the readings of `monitoring/`: strategies, streams of events, triggers, remedies, notifications."""
