"""Word hashes, character n-grams and word tables."""
