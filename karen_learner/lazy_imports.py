"""Names of packages that are imported at first use."""

import gc
from importlib import import_module
from typing import Any


def lazily(module: str, name: str) -> Any:
    """The name from the module, which is imported now if it is not yet.

    Garbage is not collected meanwhile. An import leaves hardly any, and a full collection visits all objects
    of spaCy: it takes as long as the import of this package.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return getattr(import_module(module), name)
    finally:
        if collects:
            gc.enable()
