"""Online learning shared by the pipes: weight tables, shims, optimizer state, sample weights."""
