"""Triggers that hold a cycle back: a running cycle, cool-down, quiet hours, budget, a busy machine."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Annotated

from pydantic import Field

from karen_learner.autonomy.cron import Zone, read_zone
from karen_learner.autonomy.triggers.trigger import Check, Situation, Trigger, hours

MAX_DOUBLINGS = 5


class NoCycle(Trigger):
    """No cycle of the tenant runs."""

    def check(self, situation: Situation) -> Check:
        return Check(not situation.is_running, "a cycle runs" if situation.is_running else "no cycle runs")


class CooledDown(Trigger):
    """The last cycle began `minutes` ago or earlier; twice as long after each cycle that deployed nothing."""

    minutes: Annotated[float, Field(ge=0.0, le=100_000.0)] = 30.0

    def check(self, situation: Situation) -> Check:
        wait = timedelta(minutes=self.minutes * 2 ** min(MAX_DOUBLINGS, situation.unproductive))
        age = situation.since(situation.last_start)
        return Check(age is None or age >= wait, f"last cycle {hours(age)} ago, cool-down {hours(wait)}")


class OutsideQuietHours(Trigger):
    """The local time is not between `start` and `end`. Equal times: there are no quiet hours."""

    start: time = time(0)
    end: time = time(0)
    zone: Zone = "UTC"

    def check(self, situation: Situation) -> Check:
        if self.start == self.end:
            return Check(True, "no quiet hours")
        local = situation.now.astimezone(read_zone(self.zone)).time()
        if self.start < self.end:
            quiet = self.start <= local < self.end
        else:
            quiet = local >= self.start or local < self.end
        return Check(
            not quiet, f"{local:%H:%M}, quiet from {self.start:%H:%M} to {self.end:%H:%M} {self.zone}"
        )


class WithinBudget(Trigger):
    """All tenants trained less than `training_s` seconds in the last 24 hours."""

    training_s: Annotated[float, Field(gt=0.0)] = 7200.0

    def check(self, situation: Situation) -> Check:
        used = situation.trained_s
        return Check(
            used < self.training_s, f"{used:.0f} s of training in 24 h, budget {self.training_s:g} s"
        )


class NotBusy(Trigger):
    """The load average by core is at most `load`."""

    load: Annotated[float, Field(gt=0.0)] = 1.5

    def check(self, situation: Situation) -> Check:
        reading = situation.readings.get("cpu")
        if reading is None or reading.value is None:
            return Check(True, "the load is unknown", reading)
        return Check(reading.value <= self.load, f"load {reading.value:.2f}, limit {self.load:g}", reading)
