"""Tickets of people: opened, measured, summed up, and kept apart."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from karen_learner.errors import InvalidInput, UnknownTenant, UnknownTicket
from karen_learner.improvement.tracking import ImprovementTracker
from karen_learner.improvement.tracking.tracker import MAX_TEXT_CHARS
from karen_learner.records import UserFeedback
from karen_learner.records.improvement import EstimatedImpact, Recommendation, Support
from tests.improvement.tracking.conftest import ACME, NOON, World
from tests.memory.memory_specimens import make_turn


def steady(_user: str) -> float:
    return 0.6


def better(_user: str) -> float:
    return 0.8


async def changed(world: World, *, cost: float | None = None) -> tuple[ImprovementTracker, str]:
    """A change after two days, which makes all users' answers better for two more days."""
    tracker = world.tracker()
    await world.live(2, steady)
    ticket_id = await tracker.create_improvement_ticket("clearer questions", cost=cost)
    await tracker.mark_implemented(ticket_id, {"template": 7})
    await world.live(2, better, seed=1)
    return tracker, ticket_id


async def test_a_change_is_measured_in_the_period_of_its_ticket(world: World) -> None:
    tracker, ticket_id = await changed(world, cost=100.0)
    report = await tracker.measure_impact(ticket_id)
    assert report.effect is not None
    assert report.effect.low < 0.2 < report.effect.high
    assert not report.effect.causal
    assert "not causal" in report.conclusion
    assert report.after_metrics["accuracy"] == pytest.approx(0.8, abs=0.05)
    assert report.roi.gain == pytest.approx(0.5 * report.effect.change * 480)
    assert report.roi.cost == 100.0
    assert report.implementation_details == '{"template": 7}'
    ticket = await tracker.ticket(ticket_id)
    assert ticket.status == "measured"
    assert ticket.smallest_effect is None, "there was one period only before the change"
    assert list(await tracker.impacts(ticket_id)) == [report]


async def test_other_tenants_are_the_control(world: World) -> None:
    for name in ("b", "c", "d", "e"):
        await world.live(2, steady, tenant=name, users=20, seed=2)
        world.clock.move(-2 * 86_400)
    for name in ("b", "c", "d", "e"):
        world.clock.move(2 * 86_400)
        await world.live(2, better, tenant=name, users=20, seed=3)
        world.clock.move(-4 * 86_400)
    tracker, ticket_id = await changed(world)
    report = await tracker.measure_impact(ticket_id)
    assert report.effect is not None
    assert report.effect.controls == 4
    assert report.effect.low < 0.0 < report.effect.high, "all tenants got better at this time"
    assert "4 other tenants" in report.conclusion


async def test_a_look_before_the_end_is_preliminary_and_not_stored(world: World) -> None:
    tracker = world.tracker()
    await world.live(2, steady)
    ticket_id = await tracker.create_improvement_ticket("clearer questions")
    await tracker.mark_implemented(ticket_id, "done")
    await world.live(1, better, seed=1)
    report = await tracker.measure_impact(ticket_id)
    assert not report.counts
    assert report.conclusion.startswith("Preliminary")
    assert report.period.days == pytest.approx(1.0)
    assert not await tracker.impacts(ticket_id)
    assert (await tracker.ticket(ticket_id)).status == "implemented"


async def test_another_period_than_the_named_one_does_not_count(world: World) -> None:
    tracker, ticket_id = await changed(world)
    assert not (await tracker.measure_impact(ticket_id, 1)).counts


async def test_two_processes_measure_once(world: World) -> None:
    tracker, ticket_id = await changed(world)
    ticket = await tracker.ticket(ticket_id)
    await asyncio.gather(*(world.tracker().measure(ticket, 2) for _ in range(2)), return_exceptions=True)
    assert len(await tracker.impacts(ticket_id)) == 1
    assert (await tracker.ticket(ticket_id)).status == "measured"


async def test_nothing_is_claimed_from_few_users(world: World) -> None:
    tracker = world.tracker()
    await world.live(2, steady, users=4)
    ticket_id = await tracker.create_improvement_ticket("clearer questions")
    await tracker.mark_implemented(ticket_id, "done")
    await world.live(2, better, users=4, seed=1)
    report = await tracker.measure_impact(ticket_id)
    assert report.effect is None
    assert report.before_metrics == {"accuracy": None}
    assert "fewer than 5 users" in report.conclusion
    assert report.roi.roi_percentage is None
    summary = await tracker.calculate_cumulative_roi()
    assert (summary.tickets, summary.measured, summary.cumulative) == (1, 0, None)


async def test_a_recommendation_gives_its_metric_and_expected_effect(world: World) -> None:
    await world.live(4, steady)
    impact = EstimatedImpact(metric="rating", change=0.05, low=0.0, high=0.1, source="curve")
    recommendation = Recommendation(
        tenant_id=ACME,
        category="learning",
        priority="HIGH",
        title="label 50 texts",
        description="...",
        action_items=("label",),
        estimated_impact=impact,
        implementation_difficulty="LOW",
        evidence=Support(query="karen-learner status acme"),
    )
    tracker = world.tracker()
    ticket = await tracker.ticket(await tracker.create_improvement_ticket(recommendation))
    assert (ticket.metric, ticket.expected_effect) == ("rating", 0.05)
    assert ticket.recommendation_id == recommendation.id
    other = await tracker.ticket(await tracker.create_improvement_ticket("another", metric="accuracy"))
    assert other.smallest_effect is not None
    assert 0.02 < other.smallest_effect < 0.3


async def test_the_sum_is_shrunk_and_leaves_dismissed_changes_out(world: World) -> None:
    tracker, first = await changed(world, cost=10.0)
    await tracker.measure_impact(first)
    second = await tracker.create_improvement_ticket("no change at all")
    await tracker.mark_implemented(second, "done")
    await world.live(2, better, seed=4)
    await tracker.measure_impact(second)
    both = await tracker.calculate_cumulative_roi()
    effects = [one.effect.change for one in await tracker.impacts() if one.effect is not None]
    assert both.measured == 2
    assert both.low is not None
    assert both.high is not None
    assert both.low < sum(effects) < both.high
    assert both.sum_of_significant == pytest.approx(effects[0])
    assert (both.roi.cost, both.costs_recorded, both.costs_missing) == (10.0, 1, 1)
    assert not both.causal
    (early, _) = await tracker.impacts()
    assert early.effect is not None
    then = await tracker.calculate_cumulative_roi(until=early.measured_at + timedelta(seconds=1))
    assert (then.low, then.high) == pytest.approx((early.effect.low, early.effect.high)), "the same interval"
    assert (await tracker.calculate_cumulative_roi(until=early.measured_at)).cumulative is None
    await tracker.dismiss(second, "it was removed")
    one = await tracker.calculate_cumulative_roi()
    assert one.cumulative is not None
    assert 0.0 < one.cumulative < effects[0], "shrunk towards the mean of both"
    assert (await tracker.calculate_cumulative_roi("rating")).cumulative is None


async def test_tickets_may_be_in_a_file_of_their_own_below_the_home(world: World) -> None:
    await world.live(2, steady)
    async with world.tracker(place="tickets.db") as tracker:
        ticket_id = await tracker.create_improvement_ticket("clearer questions")
        assert (world.layout.home / "tickets.db").is_file()
        assert (await tracker.ticket(ticket_id)).title == "clearer questions"
    assert not await world.tracker().tickets()


async def test_a_tracker_needs_no_learner(world: World) -> None:
    place = world.layout.home / "alone.db"
    async with ImprovementTracker(place, settings=world.settings, clock=world.clock) as tracker:
        ticket_id = await tracker.create_improvement_ticket("clearer questions")
        await tracker.mark_implemented(ticket_id, "done")
        assert (await tracker.measure_impact(ticket_id)).effect is None


async def test_tenants_see_their_own_tickets_only(world: World) -> None:
    await world.live(2, steady)
    await world.live(2, steady, tenant="other")
    ticket_id = await world.tracker().create_improvement_ticket("clearer questions")
    assert not await world.tracker("other").tickets()
    with pytest.raises(UnknownTicket):
        await world.tracker("other").ticket(ticket_id)
    with pytest.raises(UnknownTenant):
        await world.tracker("nobody").create_improvement_ticket("clearer questions")


BAD: dict[str, dict[str, Any]] = {
    "an unknown metric": {"metric": "happiness"},
    "no day": {"measurement_period": 0},
    "too many days": {"measurement_period": 366},
    "a truth value": {"measurement_period": True},
    "a negative cost": {"cost": -1.0},
    "an infinite cost": {"cost": float("inf")},
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD)
async def test_bad_arguments_open_no_ticket(world: World, arguments: dict[str, Any]) -> None:
    await world.live(1, steady, users=1)
    tracker = world.tracker()
    with pytest.raises(InvalidInput):
        await tracker.create_improvement_ticket("clearer questions", **arguments)
    assert not await tracker.tickets()


@pytest.mark.parametrize("title", ["", " ", 7, None, "x" * (MAX_TEXT_CHARS + 1)])
async def test_a_title_is_a_text(world: World, title: Any) -> None:
    await world.live(1, steady, users=1)
    with pytest.raises(InvalidInput, match="title"):
        await world.tracker().create_improvement_ticket(title)


async def test_states_follow_each_other(world: World) -> None:
    await world.live(1, steady, users=1)
    tracker = world.tracker()
    ticket_id = await tracker.create_improvement_ticket("clearer questions")
    with pytest.raises(InvalidInput, match="mark it as implemented"):
        await tracker.measure_impact(ticket_id)
    await tracker.mark_implemented(ticket_id, "done")
    with pytest.raises(InvalidInput, match="implemented already"):
        await tracker.mark_implemented(ticket_id, "again")
    await tracker.dismiss(ticket_id, "not useful")
    with pytest.raises(InvalidInput, match="dismissed"):
        await tracker.measure_impact(ticket_id)


async def test_texts_of_users_do_not_hide_feedback(world: World) -> None:
    tricky = 'my "feedback":null, and \\"feedback\\":null'
    await world.store.add_turn(make_turn("a", text=tricky))
    await world.store.add_turn(make_turn("b", text=tricky, feedback=UserFeedback(satisfaction_score=1.0)))
    start, end = NOON.replace(year=2020), NOON.replace(year=2030)
    pages = [page async for page in world.store.turns_between(ACME, start, end, with_feedback=True)]
    assert [turn.turn_id for page in pages for turn in page] == ["b"]
