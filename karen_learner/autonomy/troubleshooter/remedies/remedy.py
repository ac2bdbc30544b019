"""The form of a remedy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from karen_learner.autonomy.troubleshooter.situation import Mendable, Situation, Stream
from karen_learner.errors import InvalidInput
from karen_learner.records.notifications import Fact

Token = Mapping[str, Any]
"""JSON values with which a remedy is applied and undone. Stored before the remedy is applied."""
Facts = Mapping[str, Fact]


@dataclass(frozen=True)
class Care:
    """The learner that a remedy changes, and the situation that called for it."""

    learner: Mendable
    situation: Situation
    stream: Stream | None = None

    @property
    def tenant_id(self) -> str:
        """The tenant. Raises InvalidInput for a remedy of a tenant that is applied to the home."""
        if self.situation.tenant_id is None:
            raise InvalidInput("this remedy needs a tenant")
        return self.situation.tenant_id


@dataclass(frozen=True)
class Remedy:
    """An act that may end a problem.

    `solution` describes it to people. `prepare` returns the token; None if the remedy cannot be applied here.
    `apply` changes something, and returns facts for the story. `undo` reverses it; None if there is nothing
    to reverse. `is_setting`: it changes settings of the tenant, or of the home, for
    `troubleshooter.keep_days` at most. `is_notable`: people are told when it is applied.
    """

    solution: str
    prepare: Callable[[Care], Awaitable[Token | None]]
    apply: Callable[[Care, Token], Awaitable[Facts]]
    undo: Callable[[Care, Token], Awaitable[Facts]] | None = None
    is_setting: bool = False
    is_notable: bool = False


async def always(_care: Care) -> Token | None:
    """The token of a remedy that can always be applied, and needs nothing to be undone."""
    return {}
