"""What is simulated: how users behave, how much gold there is at the start, and when cycles run."""

from __future__ import annotations

from pydantic import Field, model_validator

from karen_learner.cycle import RequestedMode
from karen_learner.records import Record, Score


class Habits(Record):
    """How users react. Each rate is the share of the turns that give reason to do so.

    `correction_rate`: a wrong answer is corrected. `rating_rate`: a right answer is rated good, a wrong
    one bad. `noise`: a correction carries another label than the right one, a rating is the opposite of
    what is meant, and, for a share of `correction_rate * noise`, a right answer is "corrected".
    """

    correction_rate: Score = 0.3
    rating_rate: Score = 0.3
    noise: Score = 0.0


class Scenario(Record):
    """One run. `cycles` of equal length, or one `every` so many turns; `limit`: at most so many turns.

    `shots`: gold texts of each intent (of each sentiment, or of each entity label, where a text has no
    intent) that the bootstrap is given. `users` differ in activity as ranks of a Zipf distribution do.
    """

    shots: int = Field(default=10, ge=2)
    habits: Habits = Habits()
    users: int = Field(default=50, ge=1)
    cycles: int | None = Field(default=None, ge=1)
    every: int | None = Field(default=None, ge=1)
    limit: int | None = Field(default=None, ge=1)
    mode: RequestedMode = "auto"
    seed: int = 0

    @model_validator(mode="after")
    def _one_rhythm(self) -> Scenario:
        if self.cycles is not None and self.every is not None:
            raise ValueError("name the number of cycles or the turns between them, not both")
        return self
