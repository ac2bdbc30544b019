"""The desk of reviewers: order, leases, gold, undo, and withdrawn consent."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from karen_learner.curation.review import LEASE
from karen_learner.errors import InvalidInput
from karen_learner.learner import AutonomousLearner
from karen_learner.records import Contribution, CurationWrite, LabelledText, utc_now
from karen_learner.records.reviews import ReviewItem
from tests.conftest import ACME, MakeLearner

TEXT = "what is my flight to red"


async def disputed(learner: AutonomousLearner) -> ReviewItem:
    """A conflict of two people, and an unlabelled turn."""
    for user, intent in (("ann", "balance"), ("bob", "travel")):
        feedback = {"corrected_intent": intent}
        await learner.collect_conversation_metadata(ACME, TEXT, "", user, feedback, turn_id=f"by-{user}")
    await learner.collect_conversation_metadata(ACME, "good morning", "", "cy", turn_id="unlabelled")
    await learner._curator.curate(ACME)
    return (await learner.review_desk.items(ACME, "first"))[0]


def labels(item: ReviewItem, intent: str | None) -> LabelledText:
    return LabelledText(text=item.text, intent=intent)


async def test_conflicts_come_first_with_the_claims_of_people(acme: AutonomousLearner) -> None:
    item = await disputed(acme)
    assert (item.text, item.kind) == (TEXT, "conflict")
    assert [(one.label, one.people) for one in item.claims] == [("balance", 1), ("travel", 1)]
    kinds = [one.kind for one in await acme.review_desk.items(ACME, "first")]
    assert kinds == ["conflict", "uncertain"]


async def test_a_doubtful_label_waits_for_review_and_is_not_learned(make_learner: MakeLearner) -> None:
    text = "a flight to teal please"
    async with make_learner(training__n_iter=30, training__learn_rate=0.05) as learner:
        await learner.collect_conversation_metadata(
            ACME, text, "", "ann", {"corrected_intent": "balance"}, turn_id="wrong"
        )
        result = await learner.trigger_learning_cycle(ACME, mode="full", force_training=True)
        (doubt,) = result.doubtful_labels
        assert (doubt.task, doubt.stated, doubt.predicted) == ("intent", "balance", "travel")
        assert result.skipped_examples == 1
        assert await learner.example_texts(ACME, [doubt.example_id]) == {doubt.example_id: text}
        desk = learner.review_desk
        (item,) = await desk.items(ACME, "first")
        assert (item.text, item.kind) == (text, "doubtful")
        assert "'balance'" in item.why
        assert await desk.item(ACME, item.item_id) == item
        assert await desk.decide(ACME, item.item_id, "first", "saved", labels(item, "travel"))
        assert await desk.items(ACME, "first") == []
        assert await desk.undo(ACME, "first") == item.item_id
        assert [one.kind for one in await desk.items(ACME, "first")] == ["doubtful"]


async def test_an_item_is_leased_to_one_reviewer_until_a_time(make_learner: MakeLearner) -> None:
    now = [utc_now()]

    def clock() -> datetime:
        return now[0]

    async with make_learner() as learner:
        item = await disputed(learner)
        desk = learner.review_desk
        desk._clock = clock
        assert await desk.open(ACME, item.item_id, "first") is not None
        assert await desk.open(ACME, item.item_id, "second") is None
        assert item.item_id not in [one.item_id for one in await desk.items(ACME, "second")]
        assert not await desk.decide(ACME, item.item_id, "second", "saved", labels(item, "travel"))
        now[0] += LEASE + timedelta(seconds=1)
        assert await desk.open(ACME, item.item_id, "second") is not None
        assert not await desk.decide(ACME, item.item_id, "first", "saved", labels(item, "travel"))


async def test_a_decision_is_gold_and_its_undo_restores_the_conflict(acme: AutonomousLearner) -> None:
    item, desk = await disputed(acme), acme.review_desk
    before = await acme.store.counts(ACME)
    assert await desk.decide(ACME, item.item_id, "first", "saved", labels(item, "travel"))
    after = await acme.store.counts(ACME)
    assert (after.gold, after.examples.get("conflict", 0)) == (before.gold + 1, 0)
    assert await desk.undo(ACME, "second") is None
    assert await desk.undo(ACME, "first") == item.item_id
    assert await acme.store.counts(ACME) == before
    assert await desk.undo(ACME, "first") is None


async def test_gold_of_a_reviewed_turn_goes_with_the_consent_of_its_user(acme: AutonomousLearner) -> None:
    await disputed(acme)
    item = (await acme.review_desk.items(ACME, "first"))[1]
    await acme.review_desk.decide(ACME, item.item_id, "first", "saved", labels(item, "greeting"))
    await acme.add_feedback(ACME, item.turn_id, {"consent": False})
    assert item.text not in [one.text async for one in acme.store.examples(ACME, state="pending")]
    assert await acme.review_desk.undo(ACME, "first") == item.item_id
    assert await acme.review_desk.item(ACME, item.item_id) is None


async def test_a_skipped_item_is_left_to_others(acme: AutonomousLearner) -> None:
    item, desk = await disputed(acme), acme.review_desk
    assert await desk.decide(ACME, item.item_id, "first", "skipped", None)
    assert item.item_id not in [one.item_id for one in await desk.items(ACME, "first")]
    assert item.item_id in [one.item_id for one in await desk.items(ACME, "second")]


@pytest.mark.parametrize(
    "given", [None, LabelledText(text=TEXT), LabelledText(text="other", intent="travel")]
)
async def test_a_text_without_a_label_is_not_saved(
    acme: AutonomousLearner, given: LabelledText | None
) -> None:
    item = await disputed(acme)
    with pytest.raises(InvalidInput):
        await acme.review_desk.decide(ACME, item.item_id, "first", "saved", given)
    assert item.item_id in [one.item_id for one in await acme.review_desk.items(ACME, "first")]


async def test_a_draft_belongs_to_its_reviewer(acme: AutonomousLearner) -> None:
    item, desk = await disputed(acme), acme.review_desk
    assert await desk.save_draft(ACME, item.item_id, "first", {"intent": "travel"})
    assert not await desk.save_draft(ACME, item.item_id, "second", {"intent": "balance"})
    again = await desk.open(ACME, item.item_id, "first")
    assert again is not None
    assert again.draft == {"intent": "travel"}


async def test_contributors_are_counted_with_the_labels_that_hold(acme: AutonomousLearner) -> None:
    given = {"ann": "travel", "bob": "travel", "cy": "balance", "dee": "unknown"}
    for user, intent in given.items():
        feedback = {"corrected_intent": intent}
        await acme.collect_conversation_metadata(ACME, TEXT, "", user, feedback, turn_id=f"by-{user}")
    await acme._curator.curate(ACME)
    found = {one.user_id: one for one in await acme.store.people(ACME, newest=100, limit=10)}
    assert {user: one.agreeing for user, one in found.items()} == {"ann": 1, "bob": 1, "cy": 0, "dee": 0}
    assert {user: one.unusable for user, one in found.items()} == {"ann": 0, "bob": 0, "cy": 0, "dee": 1}
    assert [one.user_id for one in await acme.store.people(ACME, newest=1, limit=10)] == ["dee"]
    assert await acme.store.people("other", newest=100, limit=10) == []


async def test_a_statement_that_changes_older_texts_counts_once(acme: AutonomousLearner) -> None:
    said = [
        Contribution(
            key=f"older {at}", text=f"older {at}", intent="travel", source="correction", quality=1.0,
            user_id="ann", turn_id="by-ann",
        )
        for at in range(3)
    ]  # fmt: skip
    assert await acme.store.save_curation(ACME, CurationWrite(contributions=said))
    (ann,) = await acme.store.people(ACME, newest=100, limit=10)
    assert (ann.user_id, ann.contributions) == ("ann", 1)
