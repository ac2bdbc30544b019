"""Triggers, and the condition tree that combines them."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner import registry
from karen_learner.autonomy.triggers import TRIGGERS, Check, Situation, Trigger
from karen_learner.autonomy.triggers.mode import requested_mode
from karen_learner.autonomy.triggers.tree import read_tree
from karen_learner.errors import SettingsError
from karen_learner.records import CycleRow, LearningCycleResult, Outcome, Verdict
from karen_learner.records.readings import Reading
from karen_learner.records.triggers import ConditionResult, CycleRequest, TriggerTick
from karen_learner.settings import load_settings

NOW = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)
SETTINGS = load_settings().triggers


def situation(**values: Any) -> Situation:
    return Situation(**({"tenant_id": "acme", "now": NOW} | values))


def cycle(hours_ago: float, status: str = "deployed", *, mode: str = "incremental") -> CycleRow:
    started = NOW - timedelta(hours=hours_ago)
    verdict = Verdict(accepted=status == "deployed", harmful=False, improved=(), checks=())
    result = LearningCycleResult(
        cycle_id=f"c{hours_ago}", tenant_id="acme", mode=mode, reason=None, status=status, started_at=started,
        verdict=verdict if status in ("deployed", "rejected") else None,
    )  # fmt: skip
    return CycleRow(
        cycle_id=result.cycle_id, tenant_id="acme", mode=mode, reason=None, stage="finished", token=1,
        started_at=started, finished_at=started, result=result,
    )  # fmt: skip


def reading(name: str, value: float | None, *, spread: float = 0.0, **more: Any) -> Reading:
    known: dict[str, Any] = {"unit": "share", "direction": "higher_is_worse", "observations": 100}
    if value is not None:
        known |= {"low": value - spread, "high": value + spread}
    return Reading(name=name, tenant_id="acme", at=NOW, value=value, **(known | more))


def readings(*found: Reading) -> dict[str, Reading]:
    return {one.name: one for one in found}


def holds(trigger: str, at: Situation, **parameters: Any) -> bool:
    return TRIGGERS.find(trigger)(**parameters).check(at).holds


# Triggers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TRIGGERS.own))
def test_every_trigger_gives_a_reason_for_an_empty_tenant(name: str) -> None:
    needed = {"reading": {"name": "cpu", "above": 1}, "cron": {"expression": "0 3 * * *"}}
    check = TRIGGERS.own[name](**needed.get(name, {})).check(situation())
    assert len(check.why) > 3


def test_new_data_and_age() -> None:
    assert holds("new_data", situation(new_samples=50))
    assert not holds("new_data", situation(new_samples=49))
    old = [cycle(24 * 31)]
    assert holds("age", situation(cycles=old, new_samples=1))
    assert not holds("age", situation(cycles=old))
    assert not holds("age", situation(cycles=[cycle(24 * 29)], new_samples=100))


def test_the_interval_follows_the_volume_of_data() -> None:
    at = {"cycles": [cycle(10)]}
    assert not holds("interval", situation(**at), hours=24)
    assert holds("interval", situation(**at, new_samples=200), hours=24, by_volume=True)
    assert not holds("interval", situation(**at, new_samples=10), hours=9, by_volume=True)
    assert holds("interval", situation(), hours=24)


def test_a_cron_trigger_holds_after_its_time() -> None:
    assert holds("cron", situation(cycles=[cycle(10)]), expression="0 3 * * *")
    assert not holds("cron", situation(cycles=[cycle(8)]), expression="0 3 * * *")
    assert holds("cron", situation(cycles=[cycle(8)]), expression="0 6 * * *", zone="Europe/Berlin")


def outcome(success: bool | None = None, score: float | None = None) -> Outcome:
    return Outcome(source="accuracy", agent="a", success=success, score=score)


def test_failures_in_a_row_are_those_of_the_newest_outcomes() -> None:
    failed = [outcome(success=False)] * 3 + [outcome(), outcome(score=0.2), outcome(score=0.0)]
    assert holds("consecutive_failures", situation(outcomes=failed))
    assert not holds("consecutive_failures", situation(outcomes=[*failed, outcome(score=1.0)]))
    assert not holds("consecutive_failures", situation(outcomes=failed[2:]))


def test_a_reading_counts_if_its_whole_interval_is_beyond_the_limit() -> None:
    at = situation(readings=readings(reading("accuracy", 0.6, spread=0.05)))
    assert holds("reading", at, name="accuracy", below=0.7)
    assert not holds("reading", at, name="accuracy", below=0.64)
    assert not holds("reading", at, name="accuracy", above=0.58)
    assert not holds("reading", at, name="nothing", above=0.0)
    assert not holds(
        "reading", situation(readings=readings(reading("accuracy", None))), name="accuracy", below=1
    )


def test_drift_needs_an_effect_and_freshness_needs_corrections() -> None:
    small, large = (
        situation(readings=readings(reading("input_drift", value, alarm=True))) for value in (0.6, 0.7)
    )
    assert not holds("drift", small)
    assert holds("drift", large)
    old = reading("freshness", 20.0)
    assert not holds("freshness", situation(readings=readings(old, reading("correction_rate", 0.1))))
    assert holds("freshness", situation(readings=readings(old, reading("correction_rate", 0.4))))


def test_the_cool_down_doubles_with_each_cycle_that_deploys_nothing() -> None:
    assert holds("cooled_down", situation(cycles=[cycle(0.6)]), minutes=30)
    failed = [cycle(0.6, "skipped"), cycle(1, "failed"), cycle(2)]
    assert not holds("cooled_down", situation(cycles=failed), minutes=30)
    assert holds("cooled_down", situation(cycles=failed), minutes=9)
    future = [cycle(-5)]
    assert not holds("cooled_down", situation(cycles=future))  # a clock jump backwards


@given(st.times(), st.times(), st.times())
def test_quiet_hours_may_cross_midnight(start: time, end: time, local: time) -> None:
    now = NOW.replace(
        hour=local.hour, minute=local.minute, second=local.second, microsecond=local.microsecond
    )
    free = holds("outside_quiet_hours", situation(now=now), start=start, end=end)
    if start < end:
        assert free != (start <= local < end)
    elif start > end:
        assert free == (end <= local < start)
    else:
        assert free


def test_budget_and_load_hold_cycles_back() -> None:
    assert holds("within_budget", situation(trained_s=10), training_s=11)
    assert not holds("within_budget", situation(trained_s=11), training_s=11)
    assert not holds("not_busy", situation(readings=readings(reading("cpu", 2.0))), load=1.5)


# The tree ---------------------------------------------------------------------------------------


def test_the_default_condition_fires_for_new_data_and_tells_which_guard_holds_it_back() -> None:
    tree = read_tree(SETTINGS.condition)
    assert tree.evaluate(situation(new_samples=60), None).holds
    busy = situation(new_samples=60, readings=readings(reading("cpu", 9.0)))
    result = tree.evaluate(busy, None)
    assert not result.holds
    guards = next(child for child in result.children if child.name == "all")
    assert guards.why == "not yet not_busy"
    cpu = next(leaf for leaf in result.leaves() if leaf.name == "not_busy")
    assert cpu.reading is not None
    assert cpu.reading.value == 9.0
    manual = situation(request=CycleRequest(at=NOW, reason="release day"), is_running=False)
    assert tree.evaluate(manual, None).holds


@pytest.mark.parametrize(("rejected", "needed"), [(0, 50), (1, 100), (2, 200), (3, 400), (9, 400)])
def test_more_new_data_is_needed_after_rejections(rejected: int, needed: int) -> None:
    cycles = [cycle(at + 1, "rejected") for at in range(rejected)] + [cycle(50), cycle(51, "rejected")]
    assert holds("new_data", situation(cycles=cycles, new_samples=needed))
    assert not holds("new_data", situation(cycles=cycles, new_samples=needed - 1))


def test_the_default_condition_waits_twelve_hours_for_a_busy_machine() -> None:
    tree, before, fired = read_tree(SETTINGS.condition), None, []
    for hour in range(14):
        at = {"now": NOW + timedelta(hours=hour), "readings": readings(reading("cpu", 9.0))}
        before = tree.evaluate(situation(new_samples=60, **at), before)
        fired.append(before.holds)
    assert fired == [False] * 12 + [True] * 2


def test_every_leaf_is_evaluated_although_the_result_is_known() -> None:
    tree = read_tree({"any": ["no_cycle", "new_data", {"not": "manual"}]})
    assert [leaf.name for leaf in tree.evaluate(situation(), None).leaves()] == [
        "no_cycle",
        "new_data",
        "manual",
    ]


def test_a_held_node_needs_its_time_without_a_break() -> None:
    tree = read_tree({"held": {"minutes": 10, "of": "new_data"}})
    before, results = None, []
    for minute, samples in ((0, 50), (5, 50), (10, 50), (11, 0), (12, 50), (21, 50), (22, 50)):
        at = situation(now=NOW + timedelta(minutes=minute), new_samples=samples)
        before = tree.evaluate(at, before)
        results.append(before.holds)
    assert results == [False, False, True, False, False, False, True]


def test_a_changed_tree_starts_anew() -> None:
    old = read_tree({"all": ["no_cycle", "not_busy"]}).evaluate(situation(), None)
    later = situation(now=NOW + timedelta(hours=1))
    changed = read_tree({"all": ["no_cycle", "new_data", "not_busy"]}).evaluate(later, old)
    assert {leaf.since for leaf in changed.leaves() if leaf.holds} == {later.now}


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ({"any": []}, "needs a list of nodes"),
        ({"any": "new_data"}, "needs a list of nodes"),
        ({"any": ["new_date"]}, "unknown trigger 'new_date'.*known are age"),
        ({"new_data": {"sample": 5}}, "new_data.sample: Extra inputs"),
        ({"new_data": {"samples": 0}}, "greater than or equal to 1"),
        ({"new_data": 5}, "parameters of 'new_data' are a mapping"),
        ({"age": {"days": float("nan")}}, "age.days"),
        ({"reading": {"name": "accuracy", "above": 0.2, "below": 0.8}}, "give one of them"),
        ({"held": {"minutes": 0, "of": "age"}}, "needs \"minutes\""),
        ({"held": {"minutes": 5}}, "needs \"minutes\""),
        ({"cron": {"expression": "0 0 31 2 *"}}, "cron"),
        ({"cron": {"expression": "every day"}}, "five fields"),
        ({"cron": {"expression": "0 3 * * *", "zone": "Mars/Olympus"}}, "unknown time zone"),
        ({"any": ["age"], "all": ["age"]}, "a mapping with one key"),
        (7, "a node is the name"),
    ],
)  # fmt: skip
def test_an_unusable_condition_is_an_error_that_names_its_place(condition: Any, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        read_tree(condition)


def test_a_tree_without_end_is_refused() -> None:
    condition: Any = "age"
    for _ in range(50):
        condition = {"not": condition}
    with pytest.raises(SettingsError, match="deeper than 20 levels"):
        read_tree(condition)


class Mine(Trigger):
    limit: int = 3

    def check(self, situation: Situation) -> Check:
        return Check(situation.new_samples > self.limit, "mine")


def test_a_host_adds_a_trigger(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("mine", f"{__name__}:Mine", TRIGGERS.group)
    other = EntryPoint("other", "os:getcwd", TRIGGERS.group)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry, other])
    monkeypatch.setattr(EntryPoint, "load", lambda one: Mine if one.name == "mine" else print)
    assert read_tree({"mine": {"limit": 1}}).evaluate(situation(new_samples=2), None).holds
    with pytest.raises(SettingsError, match="no subclass of Trigger"):
        read_tree("other")


def test_a_result_survives_its_storage() -> None:
    at = situation(new_samples=60, readings=readings(reading("cpu", 0.1)))
    root = read_tree(SETTINGS.condition).evaluate(at, None)
    tick = TriggerTick(tenant_id="acme", at=NOW, fires=True, mode="auto", force=False, reason="x", root=root)
    assert TriggerTick.model_validate(tick.to_dict()) == tick


# The mode ---------------------------------------------------------------------------------------


def result(at: Situation) -> ConditionResult:
    return read_tree(SETTINGS.condition).evaluate(at, None)


def test_a_cycle_is_incremental_first() -> None:
    at = situation(new_samples=60)
    wanted = requested_mode(at, result(at), SETTINGS)
    assert (wanted.mode, wanted.force) == ("auto", False)
    assert "new_data: 60 new samples" in wanted.reason


def test_a_major_degradation_and_failing_increments_request_a_full_training() -> None:
    def fallen(rise: float) -> Situation:
        detail = {"rise": rise}
        return situation(readings=readings(reading("degradation", 1e5, alarm=True, detail=detail)))

    assert requested_mode(fallen(0.05), result(fallen(0.05)), SETTINGS).mode == "auto"
    wanted = requested_mode(fallen(0.2), result(fallen(0.2)), SETTINGS)
    assert (wanted.mode, wanted.force) == ("full", True)

    rejected = [cycle(hours, "rejected") for hours in (40, 50, 60)]
    at = situation(cycles=rejected, new_samples=80)
    assert requested_mode(at, result(at), SETTINGS).mode == "full"
    helped = situation(cycles=[cycle(39), *rejected], new_samples=80)
    assert requested_mode(helped, result(helped), SETTINGS).mode == "auto"
    full = situation(cycles=[cycle(39, "rejected", mode="full"), *rejected], new_samples=80)
    assert requested_mode(full, result(full), SETTINGS).mode == "auto"
