"""Online learning shared by the pipes: shim, feature rows, AdaGrad, serialization, optimizer state."""
