"""What karen_learner asks of an analyzer. A host may bring its own."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from karen_learner.records import Analysis


@runtime_checkable
class Analyzer(Protocol):
    """Says of a text what its user wants, how they feel and what they name."""

    async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:
        """Analyse a text with the tenant's model. May be called by many callers at once."""

    async def on_deployed(self, version: str, path: Path) -> None:
        """A new version lies at `path` and is champion now: load it if you serve from a copy."""
