"""Resolution of several contributions to one text."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.curation.resolver import (
    MAX_PER_TEXT,
    LabelResolver,
    NewContribution,
    Release,
    Withdrawal,
)
from karen_learner.records import Contribution, Example
from karen_learner.resolution import is_excluded, same_labels, with_contributions
from tests.curation.specimens import annotation, gold

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
KEY = annotation().key


def said(example: Example, *, day: int = 0) -> NewContribution:
    return NewContribution.of(example, NOON + timedelta(days=day))


def resolver(start: Example | None = None, *before: NewContribution, quorum: int = 3) -> LabelResolver:
    """A resolver of one text, with the contributions `before`."""
    stored = {} if start is None else {start.key: start}
    made = LabelResolver(stored, {}, quorum=quorum)
    made.resolve_all(before)
    return made


def example_of(made: LabelResolver) -> Example:
    (example,) = made.examples.values()
    return example


def resolved(*annotations: Example, start: Example | None = None) -> tuple[Example, list[str]]:
    made = resolver(start)
    resolutions = made.resolve_all([said(each) for each in annotations])
    return example_of(made), list(resolutions)


def learned(example: Example) -> Example:
    return example.model_copy(update={"state": "learned", "learned_in": "v1", "seq": 9})


def intent_of(user: str, intent: str, **options: Any) -> Example:
    return annotation(user, intent=intent, **options)


class TestAgreement:
    def test_a_first_annotation_is_accepted(self) -> None:
        example, resolutions = resolved(intent_of("ann", "billing"))

        assert (example.intent, example.state, resolutions) == ("billing", "pending", ["accepted"])

    def test_each_further_user_raises_the_quality(self) -> None:
        example, resolutions = resolved(
            intent_of("ann", "billing"), intent_of("bob", "billing"), intent_of("cid", "billing")
        )

        assert example.users == 3
        assert example.quality == pytest.approx(1 - 0.05 / 4)
        assert resolutions == ["accepted", "merged", "merged"]

    def test_one_user_counts_once(self) -> None:
        repeated = [intent_of("ann", "billing", turn_id=f"t{at}") for at in range(4)]

        assert resolved(*repeated)[0].users == 1

    def test_a_turn_read_again_counts_once(self) -> None:
        assert resolved(intent_of("ann", "billing"), intent_of("ann", "billing"))[0].users == 1

    def test_a_correction_after_a_rating_raises_the_quality(self) -> None:
        example, _ = resolved(
            intent_of("ann", "billing", source="rating", quality=0.75),
            intent_of("ann", "billing", turn_id="t2"),
        )
        assert (example.source, example.quality) == ("correction", 0.95)

    def test_labels_of_other_tasks_are_added(self) -> None:
        example, resolutions = resolved(
            intent_of("ann", "billing"), annotation("bob", sentiment="negative", quality=0.9)
        )
        assert (example.intent, example.sentiment, example.stratum) == ("billing", "negative", "billing")
        assert (example.users, example.quality, resolutions[-1]) == (1, 0.9, "merged")

    def test_users_and_quality_are_those_of_the_weakest_label(self) -> None:
        example, _ = resolved(
            intent_of("ann", "billing"), intent_of("bob", "billing"), annotation("cid", sentiment="negative")
        )

        assert (example.sentiment, example.users, example.quality) == ("negative", 1, 0.95)

    def test_fewer_labels_add_nothing(self) -> None:
        example, _ = resolved(
            annotation("ann", intent="billing", sentiment="negative"), intent_of("bob", "billing")
        )

        assert example.users == 1

    def test_a_learned_example_stays_learned(self) -> None:
        example, resolutions = resolved(
            intent_of("bob", "billing"), start=learned(intent_of("ann", "billing"))
        )

        assert (example.state, example.users, resolutions) == ("learned", 2, ["merged"])

    def test_a_learned_example_is_pending_after_it_gains_a_label(self) -> None:
        example, _ = resolved(
            annotation("bob", sentiment="negative"), start=learned(intent_of("ann", "billing"))
        )

        assert (example.state, example.learned_in) == ("pending", "v1")

    def test_the_identity_of_the_example_does_not_change(self) -> None:
        before = learned(intent_of("ann", "billing"))
        after, _ = resolved(intent_of("ann", "refund", turn_id="t2"), start=before)

        for field in ("example_id", "key", "group", "draw", "created_at", "seq"):
            assert getattr(after, field) == getattr(before, field)


class TestEntities:
    def test_entities_keep_the_text_that_their_offsets_refer_to(self) -> None:
        example, _ = resolved(
            annotation("ann", "cancel Gold!", intent="cancel"),
            annotation("bob", "  cancel Gold", entities=[[9, 13, "PLAN"]]),
        )
        (span,) = example.entities or ()
        assert example.text[span.start : span.end] == "Gold"
        assert (example.intent, example.turn_id, example.user_id) == ("cancel", "turn of bob", "bob")

    def test_equal_entity_texts_agree_at_different_offsets(self) -> None:
        example, resolutions = resolved(
            annotation("ann", "cancel Gold!", entities=[[7, 11, "PLAN"]]),
            annotation("bob", "  cancel Gold", entities=[[9, 13, "PLAN"]]),
        )
        assert (example.users, resolutions[-1]) == (2, "merged")

    def test_different_entities_are_a_conflict(self) -> None:
        example, resolutions = resolved(
            annotation("ann", "cancel Gold", entities=[[7, 11, "PLAN"]]),
            annotation("bob", "cancel Gold", entities=[]),
        )
        assert (example.state, resolutions[-1]) == ("conflict", "conflicts")
        assert example.reason == "entities [PLAN 7-11] (1 user) against entities [] (1 user)"


class TestOneUser:
    def test_the_newer_annotation_wins(self) -> None:
        example, resolutions = resolved(
            intent_of("ann", "billing"), intent_of("ann", "refund", turn_id="t2", quality=0.9)
        )

        assert (example.intent, example.quality, resolutions[-1]) == ("refund", 0.9, "accepted")

    def test_a_withdrawn_contribution_uncovers_the_older_one(self) -> None:
        made = resolver(
            None, said(intent_of("ann", "billing")), said(intent_of("ann", "refund", turn_id="t2"))
        )
        made.resolve(Withdrawal(KEY, "t2", "below_quality"))

        assert example_of(made).intent == "billing"

    def test_a_rating_does_not_replace_a_correction(self) -> None:
        rating = intent_of("ann", "refund", turn_id="t2", source="rating", quality=0.8)
        example, resolutions = resolved(intent_of("ann", "billing"), rating)

        assert (example.intent, resolutions[-1]) == ("billing", "conflicts")

    def test_a_turn_read_again_replaces_its_annotation(self) -> None:
        rated = annotation("ann", intent="billing", sentiment="neutral", source="rating", quality=0.8)
        example, _ = resolved(intent_of("ann", "refund"), start=learned(rated))

        assert (example.intent, example.sentiment) == ("refund", None)
        assert (example.source, example.state) == ("correction", "pending")

    def test_other_labels_of_the_older_annotation_remain(self) -> None:
        example, _ = resolved(
            annotation("ann", intent="billing", sentiment="neutral"), intent_of("ann", "refund", turn_id="t2")
        )
        assert (example.intent, example.sentiment) == ("refund", "neutral")


class TestConflict:
    def test_one_user_against_another_is_a_conflict(self) -> None:
        example, resolutions = resolved(intent_of("ann", "billing"), intent_of("bob", "refund"))

        assert (example.state, resolutions) == ("conflict", ["accepted", "conflicts"])
        assert example.reason == "intent 'billing' (1 user) against intent 'refund' (1 user)"

    def test_an_undecided_task_does_not_hide_a_decided_one(self) -> None:
        example, resolutions = resolved(
            annotation("ann", intent="billing", sentiment="neutral"),
            annotation("bob", intent="refund", sentiment="neutral"),
        )

        assert (example.state, example.intent, example.sentiment) == ("pending", None, "neutral")
        assert (example.users, resolutions[-1]) == (2, "conflicts")

    def test_a_learned_example_in_conflict_has_the_state_conflict(self) -> None:
        assert (
            resolved(intent_of("bob", "refund"), start=learned(intent_of("ann", "billing")))[0].state
            == "conflict"
        )

    @pytest.mark.parametrize("third", ["billing", "refund"])
    def test_a_further_user_decides(self, third: str) -> None:
        example, resolutions = resolved(
            intent_of("ann", "billing"), intent_of("bob", "refund"), intent_of("cid", third)
        )

        assert (example.intent, example.users, example.state) == (third, 2, "pending")
        assert (example.reason, resolutions[-1]) == (None, "accepted")

    def test_a_repeated_annotation_of_one_user_does_not_decide(self) -> None:
        example, _ = resolved(
            intent_of("ann", "billing"),
            intent_of("bob", "refund"),
            intent_of("bob", "refund", turn_id="t2"),
            intent_of("ann", "billing", turn_id="t3"),
        )
        assert (example.state, example.users) == ("conflict", 1)

    def test_two_accounts_do_not_outvote_five_people(self) -> None:
        honest = [intent_of(f"user {n}", "billing") for n in range(5)]
        liars = [intent_of("eve", "refund", turn_id=f"t{n}") for n in range(9)] + [intent_of("mal", "refund")]
        for several in (honest + liars, liars + honest, liars[:5] + honest + liars[5:]):
            example, _ = resolved(*several)
            assert (example.intent, example.users, example.state) == ("billing", 5, "pending")

    def test_a_majority_wins_until_a_larger_one_forms(self) -> None:
        example, resolutions = resolved(
            intent_of("ann", "billing"),
            intent_of("bob", "billing"),
            intent_of("cid", "refund"),
            intent_of("dan", "refund"),
            intent_of("eve", "refund"),
        )
        assert resolutions == ["accepted", "merged", "conflicts", "conflicts", "accepted"]
        assert (example.intent, example.users) == ("refund", 3)

    def test_a_correction_wins_over_a_rating(self) -> None:
        rating = intent_of("ann", "billing", source="rating", quality=0.9)
        example, resolutions = resolved(rating, intent_of("bob", "refund", quality=0.9))

        assert (example.intent, example.state, resolutions[-1]) == (
            "refund",
            "pending",
            "accepted",
        )

    def test_a_clearly_higher_quality_wins(self) -> None:
        ratings = [
            intent_of("ann", "billing", source="rating", quality=0.9),
            intent_of("bob", "refund", source="rating", quality=0.8),
        ]
        for order in (ratings, ratings[::-1]):
            example, _ = resolved(*order)
            assert (example.intent, example.state) == ("billing", "pending")

    def test_a_slightly_higher_quality_does_not_win(self) -> None:
        assert (
            resolved(intent_of("ann", "billing"), intent_of("bob", "refund", quality=0.9))[0].state
            == "conflict"
        )

    def test_a_user_of_one_side_who_joins_the_other_ends_the_conflict(self) -> None:
        example, _ = resolved(
            intent_of("ann", "billing"), intent_of("bob", "refund"), intent_of("bob", "billing", turn_id="t2")
        )

        assert (example.intent, example.users, example.state) == ("billing", 2, "pending")

    def test_a_third_label_does_not_end_a_conflict(self) -> None:
        three = [intent_of("ann", "billing"), intent_of("bob", "refund"), intent_of("cid", "upgrade")]

        assert resolved(*three)[0].state == "conflict"
        assert resolved(*three, intent_of("dan", "upgrade"))[0].intent == "upgrade"

    def test_a_change_of_label_resets_rejections(self) -> None:
        start = intent_of("ann", "billing").model_copy(update={"rejections": 1})

        assert resolved(intent_of("bob", "billing"), start=start)[0].rejections == 1
        assert resolved(intent_of("ann", "refund", turn_id="t2"), start=start)[0].rejections == 0


class TestGold:
    @pytest.mark.parametrize("intent", ["billing", "refund"])
    def test_feedback_does_not_change_gold(self, intent: str) -> None:
        start = gold(intent="billing")
        example, resolutions = resolved(annotation("ann", intent=intent, sentiment="negative"), start=start)

        assert example == start
        assert resolutions == ["merged" if intent == "billing" else "conflicts"]

    def test_gold_replaces_feedback(self) -> None:
        example, resolutions = resolved(
            annotation("ann", intent="billing", sentiment="neutral"),
            intent_of("bob", "billing"),
            gold(intent="refund"),
        )
        assert (example.intent, example.sentiment, example.source) == ("refund", None, "seed")
        assert (example.users, example.user_id, resolutions[-1]) == (1, None, "accepted")

    def test_gold_ends_a_conflict(self) -> None:
        example, _ = resolved(intent_of("ann", "billing"), intent_of("bob", "refund"), gold(intent="billing"))

        assert (example.state, example.source) == ("pending", "seed")

    def test_an_example_learned_with_the_labels_of_gold_stays_learned(self) -> None:
        example, resolutions = resolved(gold(intent="billing"), start=learned(intent_of("ann", "billing")))

        assert (example.state, example.source, resolutions) == ("learned", "seed", ["merged"])

    def test_newer_gold_wins_over_older_gold(self) -> None:
        start = learned(gold(intent="billing", sentiment="neutral"))
        example, resolutions = resolved(gold(intent="refund", source="reviewed"), start=start)

        assert (example.intent, example.sentiment, example.source) == ("refund", "neutral", "reviewed")
        assert (example.state, resolutions) == ("pending", ["accepted"])

    def test_equal_gold_changes_no_label(self) -> None:
        start = learned(gold("Where is my bill?", intent="billing", sentiment="neutral"))
        after, resolutions = resolved(gold(intent="billing"), start=start)

        assert (after, resolutions) == (start, ["merged"])

    def test_gold_of_other_tasks_is_added(self) -> None:
        example, _ = resolved(gold(intent="billing"), gold(sentiment="neutral", source="reviewed"))

        assert (example.intent, example.sentiment, example.source) == ("billing", "neutral", "reviewed")

    def test_gold_without_a_turn_is_stored_once(self) -> None:
        made = resolver(None, said(gold(intent="billing")), said(gold(intent="refund"), day=1))

        assert [each.intent for each in made.added()] == ["refund"]


class TestMeaning:
    def after(self, *new: NewContribution, quorum: int = 3) -> Example:
        start = said(gold(intent="billing", sentiment="neutral"), day=1)
        return example_of(resolver(None, start, *new, quorum=quorum))

    def corrections(self, people: Iterable[str], intent: str = "refund", *, day: int = 2) -> list[Any]:
        return [said(intent_of(user, intent), day=day) for user in people]

    def test_a_quorum_of_newer_corrections_sets_a_gold_label_aside(self) -> None:
        example = self.after(*self.corrections("abc"))

        assert (example.intent, example.sentiment, example.state) == ("refund", "neutral", "pending")
        assert (example.source, example.users) == ("correction", 3)
        assert example.reason == "gold intent 'billing' set aside by 3 users"

    @pytest.mark.parametrize(
        "new",
        [
            ("ab", "refund", 2),  # too few
            ("aaa", "refund", 2),  # one person
            ("abcd", "billing", 2),  # agree with gold
            ("abcd", "refund", 0),  # older than gold
        ],
    )
    def test_other_feedback_does_not(self, new: tuple[str, str, int]) -> None:
        people, intent, day = new
        many = [said(intent_of(user, intent, turn_id=f"t{at}"), day=day) for at, user in enumerate(people)]
        example = self.after(*many)

        assert (example.intent, example.source, example.reason) == ("billing", "seed", None)

    def test_people_who_confirm_gold_count_too(self) -> None:
        confirmed = [said(intent_of(user, "billing", source="rating"), day=2) for user in "wxyz"]

        assert self.after(*self.corrections("abc"), *confirmed).intent == "billing"

    def test_ratings_do_not_set_gold_aside(self) -> None:
        rated = [said(intent_of(user, "refund", source="rating"), day=2) for user in "abcd"]

        assert self.after(*rated).intent == "billing"

    def test_people_who_contradict_each_other_do_not_set_gold_aside(self) -> None:
        several = self.corrections("abc") + self.corrections("xyz", "cancel")

        assert self.after(*several).intent == "billing"

    def test_gold_that_is_added_again_wins_again(self) -> None:
        again = said(gold(intent="billing", sentiment="neutral"), day=3)
        example = self.after(*self.corrections("abc"), again)

        assert (example.intent, example.source, example.reason) == ("billing", "seed", None)

    def test_the_quorum_is_a_setting(self) -> None:
        assert self.after(*self.corrections("abc"), quorum=4).intent == "billing"


LABELS = st.sampled_from(["billing", "refund", None])
SAYS = st.tuples(st.sampled_from(["correction", "rating"]), LABELS, st.sampled_from(["neutral", None]),
                 st.sampled_from([0.75, 0.9, 0.95])).filter(lambda say: say[1] or say[2])  # fmt: skip


@given(
    people=st.lists(st.lists(SAYS, min_size=1, max_size=3), min_size=1, max_size=6),
    with_gold=st.booleans(),
    random=st.randoms(use_true_random=False),
)
def test_the_result_does_not_depend_on_the_order_of_people(
    people: list[list[tuple[Any, ...]]], with_gold: bool, random: Any
) -> None:
    """Each person's own contributions keep their order."""
    queues = [
        [
            said(
                annotation(
                    f"user {user}",
                    turn_id=f"{user}/{at}",
                    source=source,
                    intent=intent,
                    sentiment=sentiment,
                    quality=quality,
                ),
                day=1,
            )
            for at, (source, intent, sentiment, quality) in enumerate(says)
        ]
        for user, says in enumerate(people)
    ] + ([[said(gold(intent="cancel"))]] if with_gold else [])

    def outcome(order: list[NewContribution]) -> tuple[Any, ...]:
        example = example_of(resolver(None, *order, quorum=2))
        labels = (example.intent, example.sentiment, example.entities)
        return (*labels, example.state, example.source, example.users, pytest.approx(example.quality))

    in_turn = [each for queue in queues for each in queue]
    places = [number for number, queue in enumerate(queues) for _ in queue]
    random.shuffle(places)
    left = [list(queue) for queue in queues]
    shuffled = [left[number].pop(0) for number in places]
    assert outcome(shuffled) == outcome(in_turn)


class TestQuarantine:
    def quarantined(self, reason: str, intent: str = "billing") -> Example:
        changes = {"state": "quarantined", "reason": reason, "rejections": 2}
        return intent_of("ann", intent).model_copy(update=changes)

    def test_a_contribution_that_cannot_be_learned_is_quarantined(self) -> None:
        example, resolutions = resolved(intent_of("ann", "weather", reason="unknown label"))

        assert (example.state, example.reason, resolutions) == (
            "quarantined",
            "unknown label",
            ["quarantined"],
        )

    def test_it_does_not_change_a_usable_example(self) -> None:
        start = learned(intent_of("ann", "billing"))
        example, resolutions = resolved(intent_of("bob", "weather", reason="unknown label"), start=start)

        assert (example, resolutions) == (start, ["quarantined"])

    def test_a_turn_read_again_may_quarantine_its_example(self) -> None:
        example, _ = resolved(
            intent_of("ann", "weather", reason="unknown label"), start=learned(intent_of("ann", "billing"))
        )

        assert (example.intent, example.state) == ("weather", "quarantined")

    @pytest.mark.parametrize("reason", ["withdrawn", "unknown label 'x' for intent"])
    def test_the_next_contribution_replaces_a_quarantined_example(self, reason: str) -> None:
        example, resolutions = resolved(intent_of("bob", "refund"), start=self.quarantined(reason))

        assert (example.state, example.intent, example.users) == ("pending", "refund", 1)
        assert (example.reason, example.rejections, resolutions) == (None, 0, ["accepted"])

    @pytest.mark.parametrize("reason", ["harmful", "rolled back", "discarded"])
    def test_an_excluded_example_needs_another_user_other_labels_or_gold(self, reason: str) -> None:
        start = self.quarantined(reason)

        assert resolved(intent_of("ann", "billing", turn_id="t2"), start=start) == (start, ["quarantined"])
        assert resolved(intent_of("bob", "billing"), start=start)[0].users == 2
        assert resolved(intent_of("ann", "refund", turn_id="t2"), start=start)[0].state == "pending"
        assert resolved(gold(intent="billing"), start=start)[0].state == "pending"

    def test_a_person_who_repeats_the_labels_later_is_not_new(self) -> None:
        start = self.quarantined("harmful")
        made = resolver(start, said(intent_of("ann", "billing", turn_id="t2")))
        made.resolve(said(intent_of("ann", "billing", turn_id="t3")))

        assert is_excluded(example_of(made))
        made.resolve(said(intent_of("bob", "billing")))
        assert example_of(made).state == "pending"

    def test_feedback_does_not_change_gold_that_waits_because_of_a_rollback(self) -> None:
        changes = {"state": "quarantined", "reason": "rolled back"}
        start = gold(intent="billing").model_copy(update=changes)
        unusable = intent_of("bob", "x", reason="unknown label 'x' for intent")

        assert resolved(intent_of("bob", "refund"), start=start) == (start, ["quarantined"])
        assert resolved(unusable, start=start) == (start, ["quarantined"])
        assert resolved(gold(intent="refund"), start=start)[0].state == "pending"

    def test_feedback_replaces_discarded_gold(self) -> None:
        changes = {"state": "quarantined", "reason": "discarded"}
        start = gold(intent="billing").model_copy(update=changes)

        assert resolved(intent_of("bob", "refund"), start=start)[0].intent == "refund"

    def test_a_released_contribution_is_resolved_with_the_others(self) -> None:
        unusable = said(intent_of("ann", "weather", reason="unknown label"))
        made = resolver(None, unusable, said(intent_of("bob", "billing", source="rating", quality=0.8)))
        assert example_of(made).intent == "billing"

        assert made.resolve(Release(unusable.contribution)) == "accepted"
        assert (example_of(made).intent, example_of(made).state) == ("weather", "pending")
        assert made.resolve(Release(unusable.contribution)) == "quarantined"  # it is no longer stored


class TestWithdrawal:
    rating = intent_of("ann", "billing", source="rating", quality=0.8)

    def withdraw(self, *new: Example, turn_id: str = "turn of ann") -> Example:
        made = resolver(None, *map(said, new))
        assert made.resolve(Withdrawal(KEY, turn_id, "below_quality")) == "below_quality"
        return example_of(made)

    def test_the_only_rating_quarantines_its_example(self) -> None:
        example = self.withdraw(self.rating)

        assert (example.state, example.reason) == ("quarantined", "withdrawn")

    def test_the_contributions_of_others_remain(self) -> None:
        other = intent_of("bob", "refund", source="rating", quality=0.8)

        assert resolved(self.rating, other)[0].state == "conflict"
        for turn_id, left in (("turn of bob", "billing"), ("turn of ann", "refund")):
            example = self.withdraw(self.rating, other, turn_id=turn_id)
            assert (example.intent, example.state) == (left, "pending")

    def test_another_turn_changes_nothing(self) -> None:
        assert self.withdraw(self.rating, turn_id="x").state == "pending"


class TestConsent:
    def without(self, turn_id: str, *new: Example) -> Example:
        made = resolver(None, *map(said, new))
        return with_contributions(
            example_of(made), [each for each in made.added() if each.turn_id != turn_id]
        )

    def test_the_vote_of_a_second_person_is_removed(self) -> None:
        example = self.without("turn of bob", intent_of("ann", "billing"), intent_of("bob", "billing"))

        assert (example.users, example.quality, example.turn_id) == (1, 0.95, "turn of ann")

    def test_the_example_of_the_first_person_stands_on_the_text_of_another(self) -> None:
        example = self.without(
            "turn of ann", annotation("ann", "WHERE is my bill"), annotation("bob", "where is my bill?")
        )

        assert (example.text, example.turn_id, example.user_id) == (
            "where is my bill?",
            "turn of bob",
            "bob",
        )
        assert (example.state, example.users) == ("pending", 1)

    def test_an_example_without_other_contributions_loses_its_content(self) -> None:
        example = self.without("turn of ann", intent_of("ann", "billing"))

        assert (example.text, example.state, example.reason) == ("", "quarantined", "consent")

    def test_gold_keeps_its_labels(self) -> None:
        example = self.without("turn of ann", intent_of("ann", "refund"), gold(intent="billing"))

        assert (example.intent, example.source) == ("billing", "seed")

    def test_an_excluded_example_stays_excluded(self) -> None:
        made = resolver(None, said(annotation("ann", "BILL")), said(annotation("bob", "bill")))
        (example,) = made.changes()
        harmful = example.model_copy(update={"state": "quarantined", "reason": "harmful"})
        left = with_contributions(harmful, [each for each in made.added() if each.turn_id != "turn of ann"])

        assert (left.text, left.state, left.reason) == ("bill", "quarantined", "harmful")


class TestLabelResolver:
    def test_new_and_changed_examples_are_listed(self) -> None:
        stored = intent_of("ann", "billing")
        made = resolver(stored, said(intent_of("bob", "refund")), said(annotation("bob", "something else")))

        assert {row.key for row in made.changes()} == {KEY, annotation("bob", "something else").key}
        assert {each.turn_id for each in made.added()} == {"turn of ann", "turn of bob"}

    def test_feedback_on_gold_is_stored_without_a_change_of_the_example(self) -> None:
        stored = gold(intent="billing")
        made = resolver(stored, said(intent_of("bob", "refund")))

        assert not made.changes()
        assert [each.source for each in made.added()] == ["seed", "correction"]

    def test_a_withdrawal_of_an_unknown_text_changes_nothing(self) -> None:
        made = resolver()
        made.resolve(Withdrawal("no such key", "t1", "below_quality"))

        assert (made.changes(), made.added(), made.replaced()) == ([], [], [])

    def test_a_turn_read_again_replaces_its_stored_contribution(self) -> None:
        example = intent_of("ann", "billing")
        stored = [self.stored(example, 1), self.stored(intent_of("bob", "billing"), 2)]
        made = LabelResolver({KEY: example}, {KEY: stored}, quorum=3)
        made.resolve(said(intent_of("ann", "refund")))

        assert made.replaced() == [1]
        assert [(each.turn_id, each.intent) for each in made.added()] == [("turn of ann", "refund")]

    def test_a_text_keeps_a_limited_number_of_contributions(self) -> None:
        bob = self.stored(intent_of("bob", "billing"), 1)
        ann = [
            self.stored(intent_of("ann", "refund", turn_id=f"t{n}"), n) for n in range(2, MAX_PER_TEXT + 1)
        ]
        made = LabelResolver({KEY: intent_of("bob", "billing")}, {KEY: [bob, *ann]}, quorum=3)
        made.resolve(said(intent_of("ann", "refund", turn_id="newest")))

        assert made.replaced() == [2]  # the oldest of the person who repeats a label

    def stored(self, example: Example, seq: int) -> Contribution:
        return said(example).contribution.model_copy(update={"seq": seq})


def test_entities_agree_by_their_words() -> None:
    one = annotation("ann", "cancel Gold!", entities=[[7, 11, "PLAN"]])
    assert same_labels(one, annotation("bob", "  cancel gold", entities=[[9, 13, "PLAN"]]))
    assert not same_labels(one, annotation("bob", "cancel Gold", entities=[[7, 11, "CITY"]]))
