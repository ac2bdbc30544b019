"""Resolution of several annotations of one text."""

from __future__ import annotations

from typing import Any

import pytest

from karen_learner.curation.resolver import (
    LabelResolver,
    LabelState,
    Withdrawal,
    dissent_key,
    resolve,
    withdraw,
)
from karen_learner.records import Example
from tests.curation.specimens import annotation, gold


def resolved(*annotations: Example, start: LabelState | None = None) -> tuple[LabelState, list[str]]:
    state, resolutions = start, []
    for new in annotations:
        state, resolution = resolve(state, new)
        resolutions.append(resolution)
    assert state is not None
    return state, resolutions


def learned(example: Example) -> LabelState:
    return LabelState(example.model_copy(update={"state": "learned", "learned_in": "v1", "seq": 9}))


def intent_of(user: str, intent: str, **options: Any) -> Example:
    return annotation(user, intent=intent, **options)


class TestAgreement:
    def test_a_first_annotation_is_accepted(self) -> None:
        state, resolutions = resolved(intent_of("ann", "billing"))

        assert (state.example.intent, state.dissent, resolutions) == ("billing", None, ["accepted"])

    def test_each_further_user_raises_the_quality(self) -> None:
        state, resolutions = resolved(
            intent_of("ann", "billing"), intent_of("bob", "billing"), intent_of("cid", "billing")
        )

        assert state.example.users == 3
        assert state.example.quality == pytest.approx(1 - 0.05 / 4)
        assert resolutions == ["accepted", "merged", "merged"]

    def test_one_user_counts_once(self) -> None:
        repeated = [intent_of("ann", "billing", turn_id=f"t{at}") for at in range(4)]

        assert resolved(*repeated)[0].example.users == 1

    def test_a_turn_read_again_counts_once(self) -> None:
        assert resolved(intent_of("ann", "billing"), intent_of("ann", "billing"))[0].example.users == 1

    def test_a_correction_after_a_rating_raises_the_quality(self) -> None:
        state, _ = resolved(
            intent_of("ann", "billing", source="rating", quality=0.75),
            intent_of("ann", "billing", turn_id="t2"),
        )
        assert (state.example.source, state.example.quality) == ("correction", 0.95)

    def test_labels_of_other_tasks_are_added(self) -> None:
        state, resolutions = resolved(
            intent_of("ann", "billing"), annotation("bob", sentiment="negative", quality=0.9)
        )

        example = state.example
        assert (example.intent, example.sentiment, example.stratum) == ("billing", "negative", "billing")
        assert (example.users, example.quality, resolutions[-1]) == (1, 0.9, "merged")

    def test_the_label_of_one_user_is_not_added_to_labels_of_several_users(self) -> None:
        state, _ = resolved(
            intent_of("ann", "billing"), intent_of("bob", "billing"), annotation("cid", sentiment="negative")
        )

        assert (state.example.sentiment, state.example.users) == (None, 2)

    def test_fewer_labels_add_nothing(self) -> None:
        state, _ = resolved(
            annotation("ann", intent="billing", sentiment="negative"), intent_of("bob", "billing")
        )

        assert state.example.users == 1

    def test_a_learned_example_stays_learned(self) -> None:
        state, resolutions = resolved(intent_of("bob", "billing"), start=learned(intent_of("ann", "billing")))

        assert (state.example.state, state.example.users, resolutions) == ("learned", 2, ["merged"])

    def test_a_learned_example_is_pending_after_it_gains_a_label(self) -> None:
        state, _ = resolved(
            annotation("bob", sentiment="negative"), start=learned(intent_of("ann", "billing"))
        )

        assert (state.example.state, state.example.learned_in) == ("pending", "v1")

    def test_the_identity_of_the_example_does_not_change(self) -> None:
        before = learned(intent_of("ann", "billing"))
        after, _ = resolved(intent_of("ann", "refund", turn_id="t2"), start=before)

        for field in ("example_id", "key", "group", "split", "draw", "created_at", "seq"):
            assert getattr(after.example, field) == getattr(before.example, field)


class TestEntities:
    def test_entities_keep_the_text_that_their_offsets_refer_to(self) -> None:
        state, _ = resolved(
            annotation("ann", "cancel Gold!", intent="cancel"),
            annotation("bob", "  cancel Gold", entities=[[9, 13, "PLAN"]]),
        )
        example = state.example
        (span,) = example.entities or ()
        assert example.text[span.start : span.end] == "Gold"
        assert (example.intent, example.turn_id, example.user_id) == ("cancel", "turn of bob", "bob")

    def test_equal_entity_texts_agree_at_different_offsets(self) -> None:
        state, resolutions = resolved(
            annotation("ann", "cancel Gold!", entities=[[7, 11, "PLAN"]]),
            annotation("bob", "  cancel Gold", entities=[[9, 13, "PLAN"]]),
        )
        assert (state.example.users, resolutions[-1]) == (2, "merged")

    def test_different_entities_are_a_conflict(self) -> None:
        state, resolutions = resolved(
            annotation("ann", "cancel Gold", entities=[[7, 11, "PLAN"]]),
            annotation("bob", "cancel Gold", entities=[]),
        )
        assert (state.example.state, resolutions[-1]) == ("conflict", "conflicts")
        assert state.example.reason == "entities [PLAN 7-11] (1 user) against entities [] (1 user)"


class TestOneUser:
    def test_the_newer_annotation_wins(self) -> None:
        state, resolutions = resolved(
            intent_of("ann", "billing"), intent_of("ann", "refund", turn_id="t2", quality=0.9)
        )

        assert (state.example.intent, state.example.quality) == ("refund", 0.9)
        assert (state.dissent, resolutions[-1]) == (None, "accepted")

    def test_a_rating_does_not_replace_a_correction(self) -> None:
        rating = intent_of("ann", "refund", turn_id="t2", source="rating", quality=0.8)
        state, resolutions = resolved(intent_of("ann", "billing"), rating)

        assert (state.example.intent, resolutions[-1]) == ("billing", "conflicts")

    def test_a_turn_read_again_replaces_its_annotation(self) -> None:
        rated = annotation("ann", intent="billing", sentiment="neutral", source="rating", quality=0.8)
        state, _ = resolved(intent_of("ann", "refund"), start=learned(rated))

        assert (state.example.intent, state.example.sentiment) == ("refund", None)
        assert (state.example.source, state.example.state) == ("correction", "pending")

    def test_other_labels_of_the_older_annotation_remain(self) -> None:
        state, _ = resolved(
            annotation("ann", intent="billing", sentiment="neutral"), intent_of("ann", "refund", turn_id="t2")
        )
        assert (state.example.intent, state.example.sentiment) == ("refund", "neutral")


class TestConflict:
    def test_one_user_against_another_is_a_conflict(self) -> None:
        state, resolutions = resolved(intent_of("ann", "billing"), intent_of("bob", "refund"))

        assert (state.example.state, resolutions) == ("conflict", ["accepted", "conflicts"])
        assert state.dissent is not None
        assert (state.dissent.state, state.dissent.intent) == ("conflict", "refund")
        assert state.example.reason == "intent 'billing' (1 user) against intent 'refund' (1 user)"

    def test_a_learned_example_in_conflict_has_the_state_conflict(self) -> None:
        assert (
            resolved(intent_of("bob", "refund"), start=learned(intent_of("ann", "billing")))[0].example.state
            == "conflict"
        )

    @pytest.mark.parametrize("third", ["billing", "refund"])
    def test_a_further_user_decides(self, third: str) -> None:
        state, resolutions = resolved(
            intent_of("ann", "billing"), intent_of("bob", "refund"), intent_of("cid", third)
        )

        assert (state.example.intent, state.example.users, state.example.state) == (third, 2, "pending")
        assert (state.example.reason, resolutions[-1]) == (None, "accepted")

    def test_a_repeated_annotation_of_one_user_does_not_decide(self) -> None:
        state, _ = resolved(
            intent_of("ann", "billing"),
            intent_of("bob", "refund"),
            intent_of("bob", "refund", turn_id="t2"),
            intent_of("ann", "billing", turn_id="t3"),
        )
        assert state.example.state == "conflict"
        assert (state.example.users, state.dissent and state.dissent.users) == (1, 1)

    def test_a_majority_wins_until_a_larger_one_forms(self) -> None:
        state, resolutions = resolved(
            intent_of("ann", "billing"),
            intent_of("bob", "billing"),
            intent_of("cid", "refund"),
            intent_of("dan", "refund"),
            intent_of("eve", "refund"),
        )
        assert resolutions == ["accepted", "merged", "conflicts", "conflicts", "accepted"]
        assert (state.example.intent, state.example.users) == ("refund", 3)
        assert state.dissent is not None
        assert state.dissent.reason == "intent 'billing' (2 users) outvoted by intent 'refund' (3 users)"

    def test_a_correction_wins_over_a_rating(self) -> None:
        rating = intent_of("ann", "billing", source="rating", quality=0.9)
        state, resolutions = resolved(rating, intent_of("bob", "refund", quality=0.9))

        assert (state.example.intent, state.example.state, resolutions[-1]) == (
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
            example = resolved(*order)[0].example
            assert (example.intent, example.state) == ("billing", "pending")

    def test_a_slightly_higher_quality_does_not_win(self) -> None:
        assert (
            resolved(intent_of("ann", "billing"), intent_of("bob", "refund", quality=0.9))[0].example.state
            == "conflict"
        )

    def test_a_user_of_the_dissent_who_agrees_with_the_example_ends_the_conflict(self) -> None:
        state, _ = resolved(
            intent_of("ann", "billing"), intent_of("bob", "refund"), intent_of("bob", "billing", turn_id="t2")
        )

        assert (state.example.intent, state.example.users, state.example.state) == ("billing", 2, "pending")
        assert state.open_dissent is None

    def test_a_user_of_the_example_who_agrees_with_the_dissent_ends_the_conflict(self) -> None:
        state, _ = resolved(
            intent_of("ann", "billing"), intent_of("bob", "refund"), intent_of("ann", "refund", turn_id="t2")
        )

        assert (state.example.intent, state.example.users, state.example.state) == ("refund", 2, "pending")
        assert state.open_dissent is None

    def test_a_third_annotation_is_dropped(self) -> None:
        before, _ = resolved(intent_of("ann", "billing"), intent_of("bob", "refund"))
        after, resolutions = resolved(intent_of("cid", "upgrade"), start=before)

        assert (after, resolutions) == (before, ["conflicts"])

    def test_a_change_of_label_resets_rejections(self) -> None:
        start = LabelState(intent_of("ann", "billing").model_copy(update={"rejections": 1}))

        assert resolved(intent_of("bob", "billing"), start=start)[0].example.rejections == 1
        assert resolved(intent_of("ann", "refund", turn_id="t2"), start=start)[0].example.rejections == 0

    def test_the_dissent_has_the_split_of_the_example(self) -> None:
        start = LabelState(intent_of("ann", "billing").model_copy(update={"split": "dev"}))
        state, _ = resolved(intent_of("bob", "refund"), start=start)

        assert state.dissent is not None
        assert (state.dissent.split, state.dissent.group) == ("dev", state.example.group)
        assert state.dissent.key == dissent_key(state.example.key)


class TestGold:
    @pytest.mark.parametrize("intent", ["billing", "refund"])
    def test_feedback_does_not_change_gold(self, intent: str) -> None:
        start = LabelState(gold(intent="billing"))
        state, resolutions = resolved(annotation("ann", intent=intent, sentiment="negative"), start=start)

        assert state == start
        assert resolutions == ["merged" if intent == "billing" else "conflicts"]

    def test_gold_replaces_feedback(self) -> None:
        state, resolutions = resolved(
            annotation("ann", intent="billing", sentiment="neutral"),
            intent_of("bob", "billing"),
            gold(intent="refund"),
        )
        example = state.example
        assert (example.intent, example.sentiment, example.source) == ("refund", None, "seed")
        assert (example.users, example.user_id, resolutions[-1]) == (1, None, "accepted")

    def test_gold_ends_a_conflict(self) -> None:
        state, _ = resolved(intent_of("ann", "billing"), intent_of("bob", "refund"), gold(intent="billing"))

        assert (state.example.state, state.example.source) == ("pending", "seed")
        assert state.open_dissent is None

    def test_an_example_learned_with_the_labels_of_gold_stays_learned(self) -> None:
        state, resolutions = resolved(gold(intent="billing"), start=learned(intent_of("ann", "billing")))

        assert (state.example.state, state.example.source, resolutions) == ("learned", "seed", ["merged"])

    def test_newer_gold_wins_over_older_gold(self) -> None:
        start = learned(gold(intent="billing", sentiment="neutral"))
        state, resolutions = resolved(gold(intent="refund", source="reviewed"), start=start)

        example = state.example
        assert (example.intent, example.sentiment, example.source) == ("refund", "neutral", "reviewed")
        assert (example.state, resolutions) == ("pending", ["accepted"])

    def test_equal_gold_changes_nothing(self) -> None:
        start = learned(gold("Where is my bill?", intent="billing", sentiment="neutral"))

        assert resolved(gold(intent="billing", source="reviewed"), start=start) == (start, ["merged"])


class TestQuarantine:
    def quarantined(self, reason: str, intent: str = "billing") -> LabelState:
        example = intent_of("ann", intent).model_copy(
            update={"state": "quarantined", "reason": reason, "rejections": 2}
        )
        return LabelState(example)

    def test_an_annotation_that_cannot_be_learned_is_quarantined(self) -> None:
        state, resolutions = resolved(intent_of("ann", "weather", reason="unknown label"))

        assert (state.example.state, resolutions) == ("quarantined", ["quarantined"])

    def test_a_quarantined_annotation_does_not_change_a_usable_example(self) -> None:
        start = learned(intent_of("ann", "billing"))
        state, resolutions = resolved(intent_of("bob", "weather", reason="unknown label"), start=start)

        assert (state.example, resolutions) == (start.example, ["quarantined"])
        assert state.dissent is not None
        assert (state.dissent.intent, state.dissent.state) == ("weather", "quarantined")
        assert state.open_dissent is None

    def test_a_turn_read_again_may_quarantine_its_example(self) -> None:
        state, _ = resolved(
            intent_of("ann", "weather", reason="unknown label"), start=learned(intent_of("ann", "billing"))
        )

        assert (state.example.intent, state.example.state) == ("weather", "quarantined")

    def test_a_quarantined_annotation_does_not_replace_a_dissent(self) -> None:
        before, _ = resolved(intent_of("ann", "billing"), intent_of("bob", "refund"))

        assert resolved(intent_of("cid", "weather", reason="unknown label"), start=before)[0] == before

    @pytest.mark.parametrize("reason", ["consent", "unknown label 'x' for intent", "withdrawn"])
    def test_the_next_annotation_replaces_a_quarantined_example(self, reason: str) -> None:
        state, resolutions = resolved(intent_of("bob", "refund"), start=self.quarantined(reason))

        example = state.example
        assert (example.state, example.intent, example.users, example.reason) == (
            "pending",
            "refund",
            1,
            None,
        )
        assert (example.rejections, resolutions) == (0, ["accepted"])

    @pytest.mark.parametrize("reason", ["harmful", "rolled back", "discarded"])
    def test_an_excluded_example_needs_another_user_other_labels_or_gold(self, reason: str) -> None:
        start = self.quarantined(reason)

        assert resolved(intent_of("ann", "billing", turn_id="t2"), start=start) == (start, ["quarantined"])
        assert resolved(intent_of("bob", "billing"), start=start)[0].example.users == 2
        assert resolved(intent_of("ann", "refund", turn_id="t2"), start=start)[0].example.state == "pending"
        assert resolved(gold(intent="billing"), start=start)[0].example.state == "pending"

    def test_feedback_does_not_change_gold_that_waits_because_of_a_rollback(self) -> None:
        changes = {"state": "quarantined", "reason": "rolled back"}
        start = LabelState(gold(intent="billing").model_copy(update=changes))
        unusable = intent_of("bob", "x", reason="unknown label 'x' for intent")

        assert resolved(intent_of("bob", "refund"), start=start) == (start, ["quarantined"])
        assert resolved(unusable, start=start) == (start, ["quarantined"])
        assert resolved(gold(intent="refund"), start=start)[0].example.state == "pending"

    def test_feedback_replaces_discarded_gold(self) -> None:
        changes = {"state": "quarantined", "reason": "discarded"}
        start = LabelState(gold(intent="billing").model_copy(update=changes))

        assert resolved(intent_of("bob", "refund"), start=start)[0].example.intent == "refund"


class TestWithdrawal:
    rating = intent_of("ann", "billing", source="rating", quality=0.8)

    def test_a_withdrawn_rating_quarantines_its_example(self) -> None:
        example = withdraw(learned(self.rating), "turn of ann").example

        assert (example.state, example.reason) == ("quarantined", "withdrawn")

    @pytest.mark.parametrize(
        "example",
        [
            intent_of("ann", "billing"),
            rating.model_copy(update={"users": 2}),
            rating.model_copy(update={"turn_id": "x"}),
        ],
        ids=["a correction", "several users", "another turn"],
    )
    def test_other_annotations_are_not_withdrawn(self, example: Example) -> None:
        assert withdraw(LabelState(example), "turn of ann") == LabelState(example)

    def test_the_other_side_of_a_conflict_remains(self) -> None:
        state, _ = resolved(self.rating, intent_of("bob", "refund", source="rating", quality=0.8))
        assert state.example.state == "conflict"

        mine, theirs = withdraw(state, "turn of bob"), withdraw(state, "turn of ann")
        assert (mine.example.intent, mine.example.state, mine.open_dissent) == ("billing", "pending", None)
        assert (theirs.example.intent, theirs.example.state, theirs.open_dissent) == (
            "refund",
            "pending",
            None,
        )


class TestLabelResolver:
    def test_new_and_changed_examples_are_listed(self) -> None:
        stored = intent_of("ann", "billing")
        resolver = LabelResolver({stored.key: stored})
        resolver.resolve(intent_of("bob", "refund"))
        resolver.resolve(annotation("bob", "something else"))

        assert {row.key for row in resolver.changes()} == {
            stored.key,
            dissent_key(stored.key),
            annotation("bob", "something else").key,
        }

    def test_an_unchanged_example_is_not_listed(self) -> None:
        stored = gold(intent="billing")
        resolver = LabelResolver({stored.key: stored})
        resolver.resolve(intent_of("bob", "refund"))

        assert not resolver.changes()

    def test_a_withdrawal_of_an_unknown_text_changes_nothing(self) -> None:
        resolver = LabelResolver({})
        resolver.resolve(Withdrawal("no such key", "t1", "below_quality"))

        assert not resolver.changes()
