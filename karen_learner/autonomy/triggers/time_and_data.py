"""Triggers that are a reason to learn: time, data, age, failures, requests."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from karen_learner.autonomy.cron import Zone, next_time, read_expression
from karen_learner.autonomy.triggers.trigger import Check, Situation, Trigger, hours
from karen_learner.records import Outcome

Hours = Annotated[float, Field(gt=0.0, le=100_000.0)]
Number = Annotated[int, Field(ge=1)]
BAD_SCORE = 0.5
MAX_DOUBLINGS = 3


class Manual(Trigger):
    """A person has requested a cycle (`karen-learner retrain --queue`)."""

    def check(self, situation: Situation) -> Check:
        request = situation.request
        return Check(request is not None, "no request" if request is None else f"requested: {request.reason}")


class NewData(Trigger):
    """At least `samples` new examples since the last decision; twice as many after each rejection in a row.

    At most eight times as many: few more examples do not change a rejection, and a cycle costs CPU time.
    """

    samples: Number = 50

    def check(self, situation: Situation) -> Check:
        found, needed = situation.new_samples, self.samples * 2 ** min(MAX_DOUBLINGS, situation.rejections)
        return Check(found >= needed, f"{found} new samples, needed {needed}")


class Age(Trigger):
    """The last training is at least `days` old, and there are `samples` new examples."""

    days: Annotated[float, Field(gt=0.0, le=36_500.0)] = 30.0
    samples: Number = 1

    def check(self, situation: Situation) -> Check:
        age = situation.since(situation.last_training)
        old = age is not None and age >= timedelta(days=self.days)
        why = f"last training {hours(age)} ago, limit {self.days:g} days; {situation.new_samples} new samples"
        return Check(old and situation.new_samples >= self.samples, why)


class Interval(Trigger):
    """The last cycle began `hours` ago or earlier.

    With `by_volume`, the interval is multiplied by `samples` / new samples, between `shortest` and `longest`:
    much new data shortens it, little lengthens it.
    """

    hours: Hours = 24.0
    by_volume: bool = False
    samples: Number = 50
    shortest: Hours = 1.0
    longest: Hours = 168.0

    def check(self, situation: Situation) -> Check:
        wanted = self.hours
        if self.by_volume:
            scaled = self.hours * self.samples / max(1, situation.new_samples)
            wanted = min(self.longest, max(self.shortest, scaled))
        age = situation.since(situation.last_start)
        due = age is None or age >= timedelta(hours=wanted)
        return Check(due, f"last cycle {hours(age)} ago, interval {wanted:g} h")


class Cron(Trigger):
    """A time of a cron expression has come since the last cycle. `zone` is an IANA time zone."""

    expression: Annotated[str, AfterValidator(read_expression)]
    zone: Zone = "UTC"

    def check(self, situation: Situation) -> Check:
        last = situation.last_start
        if last is None:
            return Check(True, "there was no cycle")
        due = next_time(self.expression, last, zone=self.zone)
        return Check(due <= situation.now, f"next time after the last cycle: {due:%Y-%m-%d %H:%M} UTC")


class ConsecutiveFailures(Trigger):
    """The newest `count` outcomes are all failures: unsuccessful attempts, or scores below 0.5."""

    count: Number = 5

    def check(self, situation: Situation) -> Check:
        failed = [has_failed(one) for one in situation.outcomes]
        known = [one for one in failed if one is not None]
        row = next((at for at, one in enumerate(reversed(known)) if not one), len(known))
        return Check(row >= self.count, f"{row} failures in a row, limit {self.count}")


def has_failed(outcome: Outcome) -> bool | None:
    """Whether an outcome is a failure; None if it does not tell."""
    if outcome.success is not None:
        return not outcome.success
    return None if outcome.score is None else outcome.score < BAD_SCORE
