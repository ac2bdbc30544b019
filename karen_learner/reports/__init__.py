"""Reports of a period for people: executive summaries, technical reports, archives."""
