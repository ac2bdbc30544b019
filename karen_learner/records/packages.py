"""A model as an installable Python package."""

from __future__ import annotations

from pathlib import Path

from karen_learner.records.base import Record


class ModelPackage(Record):
    """A wheel at `path`, which `pip install` installs and `spacy.load(name)` loads.

    `model_version` is the version in it, `requirements` are the packages that it needs. `own_components` are
    components of the user's own code, which the program that loads the package must register.
    """

    path: Path
    name: str
    release: str
    tenant_id: str
    model_version: str
    requirements: tuple[str, ...]
    own_components: tuple[str, ...] = ()
