"""Deployed versions open tickets, which are measured without a person."""

from __future__ import annotations

from typing import Any

import pytest

from karen_learner.autonomy.improvement_part import ImprovementPart
from karen_learner.records import Promotion
from tests.improvement.tracking.conftest import ACME, DAY, World


async def deployed(world: World, *, change: float = 0.2, share: float = 0.3) -> None:
    """Two days with the first version, and two with the second."""
    await world.deploy("v1", None)
    await world.live(2, world.effect(0.0))
    await world.deploy("v2", "v1", share=share)
    world.held = await world.store.holdback(ACME)
    await world.follow()
    await world.live(2, world.effect(change), seed=1)


async def test_a_deployment_with_a_holdback_is_measured_twice(world: World) -> None:
    await deployed(world)
    (ticket,) = await world.tracker().tickets()
    assert ticket.ticket_id == "deployed-v2"
    assert await world.tracker().ticket("v2") == ticket
    assert ticket.smallest_effect is not None
    assert 0.05 < ticket.smallest_effect < 0.3
    await world.follow()
    (report,) = await world.tracker().impacts()
    assert report.effect is not None
    assert report.effect.causal
    assert report.effect.low < 0.2 < report.effect.high
    assert report.effect.users_changed + report.effect.users_kept == 60
    assert 5 <= report.effect.users_kept <= 30
    assert "kept the former version" in report.conclusion
    await world.live(2, world.effect(0.2), seed=2)
    for _ in range(2):
        await world.follow()
    _, later = await world.tracker().impacts()
    assert later.period.days == pytest.approx(4.0)
    assert later.effect is not None
    assert later.effect.standard_error < report.effect.standard_error
    summary = await world.tracker().calculate_cumulative_roi()
    assert summary.cumulative == pytest.approx(later.effect.change)
    assert summary.causal


async def test_without_a_holdback_the_periods_are_compared(world: World) -> None:
    await deployed(world, share=0.0)
    await world.follow()
    (report,) = await world.tracker().impacts()
    assert report.effect is not None
    assert (report.effect.design, report.effect.causal) == ("interrupted_series", False)


async def test_nothing_is_claimed_without_an_effect(world: World) -> None:
    await deployed(world, change=0.0)
    await world.follow()
    (report,) = await world.tracker().impacts()
    assert report.effect is not None
    assert report.effect.low < 0.0 < report.effect.high
    assert report.conclusion.startswith("No effect on accuracy is shown")


async def test_deployments_during_a_measurement_belong_to_it(world: World) -> None:
    await deployed(world)
    world.clock.move(-DAY)
    await world.deploy("v3", "v2", share=0.3)
    await world.follow()
    assert len(await world.tracker().tickets()) == 1
    world.clock.move(3 * DAY)
    await world.deploy("v4", "v3", share=0.3)
    await world.follow()
    assert [one.version for one in await world.tracker().tickets()] == ["v4", "v2"]


async def test_a_rollback_dismisses_the_ticket(world: World) -> None:
    await deployed(world)
    version = await world.store.get_version(ACME, "v1")
    assert version is not None
    assert await world.store.promote(ACME, Promotion(version=version, expected="v2"), token=None)
    await world.follow()
    (ticket,) = await world.tracker().tickets()
    assert ticket.status == "dismissed"
    assert "rolled back to v1" in (ticket.implementation_details or "")
    assert not await world.tracker().impacts()
    assert await world.store.holdback(ACME) is None


async def test_a_holdback_that_ended_early_is_measured_until_its_end(world: World) -> None:
    await deployed(world)
    world.clock.move(-DAY)
    await world.store.end_holdback(ACME, "v1", at=world.clock())
    world.clock.move(DAY)
    await world.follow()
    (report,) = await world.tracker().impacts()
    assert report.period.days == pytest.approx(1.0)


async def test_a_service_that_starts_after_the_period_opens_no_ticket(world: World) -> None:
    await world.deploy("v1", None)
    await world.deploy("v2", "v1")
    world.clock.move(3 * DAY)
    await world.follow()
    assert not await world.tracker().tickets()


async def test_the_part_of_the_service_follows_all_tenants_once_a_minute(world: World) -> None:
    await world.deploy("v1", None)
    await world.deploy("v2", "v1")
    asked = 0

    async def tenants() -> list[str]:
        nonlocal asked
        asked += 1
        return ["nobody", ACME]

    learner: Any = world
    part = ImprovementPart(learner, tenants)
    await part.start()
    for seconds in (0, 30, 31):
        world.clock.move(seconds)
        await part.tick(world.clock())
    await part.stop()
    assert asked == 2
    assert len(await world.tracker().tickets()) == 1
