"""Examples that are not learned until a person decides: listed by reason, released, discarded."""

from __future__ import annotations

from datetime import timedelta

import pytest

from karen_learner.curation.quarantine import REASONS
from karen_learner.errors import InvalidInput
from karen_learner.learner import AutonomousLearner
from karen_learner.records import Example, Quarantine
from tests.conftest import ACME, gold_examples

_TTL = timedelta(seconds=60)
HARMFUL, DISPUTED, STRANGE = "give me the wrong thing", "nobody agrees on this one", "a label nobody declared"


async def say(learner: AutonomousLearner, text: str, intent: str, user: str) -> None:
    await learner.collect_conversation_metadata(ACME, text, "ok", user, {"corrected_intent": intent})


async def curate(learner: AutonomousLearner) -> None:
    token = await learner.store.acquire_lease(ACME, "test", ttl=_TTL)
    assert token is not None
    await learner._curator.curate(ACME, token=token.token)
    await learner.store.release_lease(token)


async def pending(learner: AutonomousLearner) -> list[Example]:
    return [one async for one in learner.store.examples(ACME, state="pending")]


@pytest.fixture
async def quarantined(acme: AutonomousLearner) -> AutonomousLearner:
    """One example harmed twice, one in conflict, one with an undeclared label."""
    await say(acme, HARMFUL, "travel", "a")
    await curate(acme)
    for _ in range(2):
        await acme.store.reject_examples(ACME, await pending(acme), harmful=True, quarantine_at=2)
    for user, intent in (("a", "travel"), ("b", "balance")):
        await say(acme, DISPUTED, intent, user)
    await say(acme, STRANGE, "undeclared", "a")
    await curate(acme)
    return acme


def by_text(found: Quarantine) -> dict[str, str]:
    return {one.text: one.reason for one in found.examples}


async def test_examples_are_listed_by_reason_with_texts_and_remedies(quarantined: AutonomousLearner) -> None:
    found = await quarantined.quarantine(ACME)
    assert by_text(found) == {HARMFUL: "harmful", DISPUTED: "conflict", STRANGE: "label"}
    assert found.counts == {"harmful": 1, "conflict": 1, "label": 1}
    remedies = {one.reason: one.remedy for one in found.examples}
    assert remedies["harmful"] is None
    assert "gold" in (remedies["conflict"] or "")
    assert "gold" in (remedies["label"] or "")
    only = await quarantined.quarantine(ACME, reason="conflict")
    assert by_text(only) == {DISPUTED: "conflict"}
    assert set(found.counts) <= set(REASONS)
    assert len((await quarantined.quarantine(ACME, limit=1)).examples) == 1


async def test_a_released_example_is_pending_with_two_chances(quarantined: AutonomousLearner) -> None:
    (harmful,) = (await quarantined.quarantine(ACME, reason="harmful")).examples
    assert await quarantined.release(ACME, [harmful.example_id[:8]]) == 1
    (released,) = await pending(quarantined)
    assert (released.text, released.rejections, released.reason) == (HARMFUL, 0, None)
    assert "harmful" not in (await quarantined.quarantine(ACME)).counts
    assert await quarantined.release(ACME, [harmful.example_id]) == 0


async def test_conflicts_and_unusable_labels_are_not_released(quarantined: AutonomousLearner) -> None:
    found = await quarantined.quarantine(ACME)
    names = [one.example_id for one in found.examples if one.reason != "harmful"]
    assert await quarantined.release(ACME, names) == 0
    assert (await quarantined.quarantine(ACME)).counts == found.counts


async def test_discarded_examples_stay_excluded_and_can_be_released(quarantined: AutonomousLearner) -> None:
    found = await quarantined.quarantine(ACME)
    names = [one.example_id for one in found.examples if one.reason in ("harmful", "conflict")]
    assert await quarantined.discard(ACME, names) == 2
    assert (await quarantined.quarantine(ACME)).counts == {"discarded": 2, "label": 1}
    assert await quarantined.discard(ACME, names) == 0
    assert await quarantined.release(ACME, names) == 2
    assert {one.text for one in await pending(quarantined)} == {HARMFUL, DISPUTED}


async def test_examples_of_a_rollback_are_listed(acme: AutonomousLearner) -> None:
    for user in "abc":
        await say(acme, "sing me a nice song", "travel", user)
    result = await acme.trigger_learning_cycle(ACME, mode="micro", force_training=True)
    assert result.status == "deployed", result.error_message
    await acme.rollback(ACME)
    assert by_text(await acme.quarantine(ACME)) == {"sing me a nice song": "rolled back"}
    assert (await acme.trigger_learning_cycle(ACME)).status == "skipped"
    (waiting,) = (await acme.quarantine(ACME)).examples
    assert await acme.release(ACME, [waiting.example_id]) == 1
    assert (await acme.status(ACME)).counts.waiting == 0


async def test_an_unknown_or_ambiguous_id_is_refused(quarantined: AutonomousLearner) -> None:
    with pytest.raises(InvalidInput, match="no example 'zzzz'"):
        await quarantined.release(ACME, ["zzzz"])
    names = [one.example_id async for one in quarantined.store.examples(ACME, state="learned")]
    shared = names[0][:3]
    with pytest.raises(InvalidInput, match="ambiguous"):
        await quarantined.discard(ACME, [shared])
    with pytest.raises(InvalidInput, match="list of ids"):
        await quarantined.release(ACME, names[0])


async def test_status_recommends_no_batch_that_is_quarantined(quarantined: AutonomousLearner) -> None:
    status = await quarantined.status(ACME)
    assert not status.ready_to_learn
    assert len(gold_examples()) == status.counts.gold


async def test_short_names_of_versions_and_cycles_are_accepted(acme: AutonomousLearner) -> None:
    (version,) = await acme.versions(ACME)
    (cycle,) = await acme.history(ACME)
    for part in (version.version, "v0001", version.version[:9]):
        found = await acme.version(ACME, part)
        assert found is not None
        assert found.version == version.version
    for part in (cycle.cycle_id, cycle.cycle_id[-8:], cycle.cycle_id[-8:-4], "2"):
        assert (await acme.cycle(ACME, part)).cycle_id == cycle.cycle_id
    assert await acme.version(ACME, "v0002") is None
    assert await acme.version(ACME, "%") is None
    assert await acme.version(ACME, "") is None
