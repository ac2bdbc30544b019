"""Names of packages that are imported at first use."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

INFO_OF_SPACY = "spacy.cli.info"


def lazily(module: str, name: str) -> Any:
    """The name from the module, which is imported now if it is not yet."""
    with without_collection():
        return getattr(import_module(module), name)


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage during imports.

    An import leaves hardly any, and a full collection visits all objects of spaCy: it takes as long as the
    import of this package.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def import_spacy() -> ModuleType:
    """Import spaCy, if it is not imported yet, without `spacy.cli` until it is used.

    spaCy imports its command line for `spacy.info`, with clients for HTTP: two fifths of its import.
    """
    if "spacy" not in sys.modules:
        _group_entry_points()
        stand_in = ModuleType(INFO_OF_SPACY)
        stand_in.__dict__["info"] = _info_of_spacy
        sys.modules[INFO_OF_SPACY] = stand_in
        try:
            spacy = import_module("spacy")
        finally:
            del sys.modules[INFO_OF_SPACY]
        if "spacy.cli" not in sys.modules:
            spacy.__dict__["__getattr__"] = _attribute_of_spacy
    return sys.modules["spacy"]


def _group_entry_points() -> None:
    """Give spaCy's registries the entry points by group: one lookup in place of a search of all.

    A dictionary is the other form that `catalogue` accepts. Loading a pipeline makes a hundred lookups.
    """
    catalogue = import_module("catalogue")
    points = catalogue.AVAILABLE_ENTRY_POINTS
    catalogue.__dict__["AVAILABLE_ENTRY_POINTS"] = {
        group: points.select(group=group) for group in points.groups
    }


def _info_of_spacy(*args: Any, **options: Any) -> Any:
    return import_module(INFO_OF_SPACY).info(*args, **options)


def _attribute_of_spacy(name: str) -> Any:
    if name == "cli":
        return import_module("spacy.cli")
    raise AttributeError(f"module 'spacy' has no attribute {name!r}")
