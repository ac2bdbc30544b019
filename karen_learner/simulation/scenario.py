"""Scenario of a simulation: feedback rates, gold at the start, and cycles."""

from __future__ import annotations

from pydantic import Field, model_validator

from karen_learner.cycle import RequestedMode
from karen_learner.records import Record, Score


class FeedbackRates(Record):
    """Shares of turns with feedback.

    `correction_rate`: wrong answers with a correction. `rating_rate`: answers with a rating, good for right
    and poor for wrong ones. `noise`: corrections with a wrong label and inverted ratings; a share of
    `correction_rate * noise` of the right answers gets a wrong correction.
    """

    correction_rate: Score = 0.3
    rating_rate: Score = 0.3
    noise: Score = 0.0


class Scenario(Record):
    """One run. `cycles`: number of equal cycles; `every`: turns per cycle; `limit`: maximum number of turns.

    `shots`: gold texts of each stratum in the bootstrap. `users`: number of users, with Zipf activity.
    """

    shots: int = Field(default=10, ge=2)
    rates: FeedbackRates = FeedbackRates()
    users: int = Field(default=50, ge=1)
    cycles: int | None = Field(default=None, ge=1)
    every: int | None = Field(default=None, ge=1)
    limit: int | None = Field(default=None, ge=1)
    mode: RequestedMode = "auto"
    seed: int = 0

    @model_validator(mode="after")
    def _cycles_or_every(self) -> Scenario:
        if self.cycles is not None and self.every is not None:
            raise ValueError("cycles and every exclude each other: give one")
        return self
