"""What karen_learner asks of an analyzer. A host may bring its own."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeGuard, runtime_checkable

from karen_learner.records import NO_MOOD, Analysis, Mood


@runtime_checkable
class Analyzer(Protocol):
    """Says of a text what its user wants, how they feel and what they name."""

    async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:
        """Analyse a text with the tenant's model. May be called by many callers at once."""

    async def on_deployed(self, version: str, path: Path) -> None:
        """A new version lies at `path` and is champion now: load it if you serve from a copy."""


@runtime_checkable
class HearsMoods(Protocol):
    """An analyzer that wants to be told how the turns before a text sounded: its `hears_moods` is True."""

    hears_moods: bool

    async def analyze(self, text: str, *, tenant_id: str | None = None, mood: Mood = NO_MOOD) -> Analysis:
        """Analyse a text that was said in this mood."""


def hears_moods(analyzer: Analyzer) -> TypeGuard[HearsMoods]:
    """Whether the analyzer wants to be told of moods."""
    return getattr(analyzer, "hears_moods", False) is True


async def analyze_in_mood(analyzer: Analyzer, text: str, *, tenant_id: str, mood: Mood) -> Analysis:
    """What the analyzer says of a text; the mood is passed over if it does not hear any."""
    if hears_moods(analyzer):
        return await analyzer.analyze(text, tenant_id=tenant_id, mood=mood)
    return await analyzer.analyze(text, tenant_id=tenant_id)
