"""What becomes of several words on one text."""

from __future__ import annotations

from typing import Any

import pytest

from karen_learner.curation.merge import Ledger, Standing, receive, rival_key, withdrawn
from karen_learner.records import Example
from tests.curation.specimens import gold, word


def hear(*words: Example, start: Standing | None = None) -> tuple[Standing, list[str]]:
    standing, fates = start, []
    for newcomer in words:
        standing, fate = receive(standing, newcomer)
        fates.append(fate)
    assert standing is not None
    return standing, fates


def learned(example: Example) -> Standing:
    return Standing(example.model_copy(update={"state": "learned", "learned_in": "v1", "seq": 9}))


def says(user: str, intent: str, **options: Any) -> Example:
    return word(user, intent=intent, **options)


class TestAgreement:
    def test_a_first_word_is_accepted(self) -> None:
        standing, fates = hear(says("ann", "billing"))

        assert (standing.main.intent, standing.rival, fates) == ("billing", None, ["accepted"])

    def test_several_users_halve_the_doubt(self) -> None:
        standing, fates = hear(says("ann", "billing"), says("bob", "billing"), says("cid", "billing"))

        assert standing.main.users == 3
        assert standing.main.quality == pytest.approx(1 - 0.05 / 4)
        assert fates == ["accepted", "merged", "merged"]

    def test_one_user_counts_once(self) -> None:
        words = [says("ann", "billing", turn_id=f"t{at}") for at in range(4)]

        assert hear(*words)[0].main.users == 1

    def test_a_turn_read_again_counts_once(self) -> None:
        assert hear(says("ann", "billing"), says("ann", "billing"))[0].main.users == 1

    def test_a_better_word_of_the_same_kind_raises_the_quality(self) -> None:
        standing, _ = hear(
            says("ann", "billing", source="rating", quality=0.75), says("ann", "billing", turn_id="t2")
        )
        assert (standing.main.source, standing.main.quality) == ("correction", 0.95)

    def test_labels_of_other_tasks_are_united(self) -> None:
        standing, fates = hear(says("ann", "billing"), word("bob", sentiment="negative", quality=0.9))

        main = standing.main
        assert (main.intent, main.sentiment, main.stratum) == ("billing", "negative", "billing")
        assert (main.users, main.quality, fates[-1]) == (1, 0.9, "merged")

    def test_a_single_word_is_not_put_beside_what_several_agree_on(self) -> None:
        standing, _ = hear(says("ann", "billing"), says("bob", "billing"), word("cid", sentiment="negative"))

        assert (standing.main.sentiment, standing.main.users) == (None, 2)

    def test_fewer_labels_add_nothing(self) -> None:
        standing, _ = hear(word("ann", intent="billing", sentiment="negative"), says("bob", "billing"))

        assert standing.main.users == 1

    def test_a_learned_example_stays_learned(self) -> None:
        standing, fates = hear(says("bob", "billing"), start=learned(says("ann", "billing")))

        assert (standing.main.state, standing.main.users, fates) == ("learned", 2, ["merged"])

    def test_but_is_pending_when_it_gains_a_label(self) -> None:
        standing, _ = hear(word("bob", sentiment="negative"), start=learned(says("ann", "billing")))

        assert (standing.main.state, standing.main.learned_in) == ("pending", "v1")

    def test_the_row_stays_the_same(self) -> None:
        before = learned(says("ann", "billing"))
        after, _ = hear(says("ann", "refund", turn_id="t2"), start=before)

        for field in ("example_id", "key", "group", "split", "draw", "created_at", "seq"):
            assert getattr(after.main, field) == getattr(before.main, field)


class TestEntities:
    def test_texts_that_differ_outside_keep_the_offsets_they_belong_to(self) -> None:
        standing, _ = hear(
            word("ann", "cancel Gold!", intent="cancel"),
            word("bob", "  cancel Gold", entities=[[9, 13, "PLAN"]]),
        )
        main = standing.main
        (span,) = main.entities or ()
        assert main.text[span.start : span.end] == "Gold"
        assert (main.intent, main.turn_id, main.user_id) == ("cancel", "turn of bob", "bob")

    def test_the_same_words_agree_wherever_they_stand(self) -> None:
        standing, fates = hear(
            word("ann", "cancel Gold!", entities=[[7, 11, "PLAN"]]),
            word("bob", "  cancel Gold", entities=[[9, 13, "PLAN"]]),
        )
        assert (standing.main.users, fates[-1]) == (2, "merged")

    def test_other_labels_are_a_conflict(self) -> None:
        standing, fates = hear(
            word("ann", "cancel Gold", entities=[[7, 11, "PLAN"]]), word("bob", "cancel Gold", entities=[])
        )
        assert (standing.main.state, fates[-1]) == ("conflict", "conflicts")
        assert standing.main.reason == "entities [PLAN 7-11] (1 user) against entities [] (1 user)"


class TestOneUser:
    def test_the_newer_word_wins(self) -> None:
        standing, fates = hear(says("ann", "billing"), says("ann", "refund", turn_id="t2", quality=0.9))

        assert (standing.main.intent, standing.main.quality) == ("refund", 0.9)
        assert (standing.rival, fates[-1]) == (None, "accepted")

    def test_but_a_rating_not_over_the_correction(self) -> None:
        rating = says("ann", "refund", turn_id="t2", source="rating", quality=0.8)
        standing, fates = hear(says("ann", "billing"), rating)

        assert (standing.main.intent, fates[-1]) == ("billing", "conflicts")

    def test_a_turn_read_again_replaces_what_was_read_from_it(self) -> None:
        rated = word("ann", intent="billing", sentiment="neutral", source="rating", quality=0.8)
        standing, _ = hear(says("ann", "refund"), start=learned(rated))

        assert (standing.main.intent, standing.main.sentiment) == ("refund", None)
        assert (standing.main.source, standing.main.state) == ("correction", "pending")

    def test_other_labels_of_the_older_word_stay(self) -> None:
        standing, _ = hear(
            word("ann", intent="billing", sentiment="neutral"), says("ann", "refund", turn_id="t2")
        )
        assert (standing.main.intent, standing.main.sentiment) == ("refund", "neutral")


class TestSides:
    def test_one_against_one_is_a_conflict(self) -> None:
        standing, fates = hear(says("ann", "billing"), says("bob", "refund"))

        assert (standing.main.state, fates) == ("conflict", ["accepted", "conflicts"])
        assert standing.rival is not None
        assert (standing.rival.state, standing.rival.intent) == ("conflict", "refund")
        assert standing.main.reason == "intent 'billing' (1 user) against intent 'refund' (1 user)"

    def test_a_learned_example_in_conflict_is_set_aside(self) -> None:
        assert hear(says("bob", "refund"), start=learned(says("ann", "billing")))[0].main.state == "conflict"

    @pytest.mark.parametrize("third", ["billing", "refund"])
    def test_a_further_user_decides(self, third: str) -> None:
        standing, fates = hear(says("ann", "billing"), says("bob", "refund"), says("cid", third))

        assert (standing.main.intent, standing.main.users, standing.main.state) == (third, 2, "pending")
        assert (standing.main.reason, fates[-1]) == (None, "accepted")

    def test_the_same_user_again_does_not_decide(self) -> None:
        standing, _ = hear(
            says("ann", "billing"),
            says("bob", "refund"),
            says("bob", "refund", turn_id="t2"),
            says("ann", "billing", turn_id="t3"),
        )
        assert standing.main.state == "conflict"
        assert (standing.main.users, standing.rival and standing.rival.users) == (1, 1)

    def test_the_majority_holds_and_is_overturned(self) -> None:
        standing, fates = hear(
            says("ann", "billing"),
            says("bob", "billing"),
            says("cid", "refund"),
            says("dan", "refund"),
            says("eve", "refund"),
        )
        assert fates == ["accepted", "merged", "conflicts", "conflicts", "accepted"]
        assert (standing.main.intent, standing.main.users) == ("refund", 3)
        assert standing.rival is not None
        assert standing.rival.reason == "intent 'billing' (2 users) outvoted by intent 'refund' (3 users)"

    def test_a_correction_wins_over_a_rating(self) -> None:
        rating = says("ann", "billing", source="rating", quality=0.9)
        standing, fates = hear(rating, says("bob", "refund", quality=0.9))

        assert (standing.main.intent, standing.main.state, fates[-1]) == ("refund", "pending", "accepted")

    def test_a_clearly_better_word_wins(self) -> None:
        ratings = [
            says("ann", "billing", source="rating", quality=0.9),
            says("bob", "refund", source="rating", quality=0.8),
        ]
        for words in (ratings, ratings[::-1]):
            main = hear(*words)[0].main
            assert (main.intent, main.state) == ("billing", "pending")

    def test_a_slightly_better_one_does_not(self) -> None:
        assert hear(says("ann", "billing"), says("bob", "refund", quality=0.9))[0].main.state == "conflict"

    def test_giving_in_ends_the_conflict(self) -> None:
        standing, _ = hear(
            says("ann", "billing"), says("bob", "refund"), says("bob", "billing", turn_id="t2")
        )

        assert (standing.main.intent, standing.main.users, standing.main.state) == ("billing", 2, "pending")
        assert standing.live_rival is None

    def test_either_side_may_give_in(self) -> None:
        standing, _ = hear(says("ann", "billing"), says("bob", "refund"), says("ann", "refund", turn_id="t2"))

        assert (standing.main.intent, standing.main.users, standing.main.state) == ("refund", 2, "pending")
        assert standing.live_rival is None

    def test_a_third_opinion_is_not_kept(self) -> None:
        before, _ = hear(says("ann", "billing"), says("bob", "refund"))
        after, fates = hear(says("cid", "upgrade"), start=before)

        assert (after, fates) == (before, ["conflicts"])

    def test_a_change_of_label_forgets_rejections(self) -> None:
        start = Standing(says("ann", "billing").model_copy(update={"rejections": 1}))

        assert hear(says("bob", "billing"), start=start)[0].main.rejections == 1
        assert hear(says("ann", "refund", turn_id="t2"), start=start)[0].main.rejections == 0

    def test_the_rival_shares_the_split(self) -> None:
        start = Standing(says("ann", "billing").model_copy(update={"split": "dev"}))
        standing, _ = hear(says("bob", "refund"), start=start)

        assert standing.rival is not None
        assert (standing.rival.split, standing.rival.group) == ("dev", standing.main.group)
        assert standing.rival.key == rival_key(standing.main.key)


class TestGold:
    @pytest.mark.parametrize("intent", ["billing", "refund"])
    def test_feedback_does_not_change_it(self, intent: str) -> None:
        start = Standing(gold(intent="billing"))
        standing, fates = hear(word("ann", intent=intent, sentiment="negative"), start=start)

        assert standing == start
        assert fates == ["merged" if intent == "billing" else "conflicts"]

    def test_it_takes_the_place_of_feedback(self) -> None:
        standing, fates = hear(
            word("ann", intent="billing", sentiment="neutral"), says("bob", "billing"), gold(intent="refund")
        )
        main = standing.main
        assert (main.intent, main.sentiment, main.source) == ("refund", None, "seed")
        assert (main.users, main.user_id, fates[-1]) == (1, None, "accepted")

    def test_it_ends_a_conflict(self) -> None:
        standing, _ = hear(says("ann", "billing"), says("bob", "refund"), gold(intent="billing"))

        assert (standing.main.state, standing.main.source) == ("pending", "seed")
        assert standing.live_rival is None

    def test_what_was_learned_with_its_labels_stays_learned(self) -> None:
        standing, fates = hear(gold(intent="billing"), start=learned(says("ann", "billing")))

        assert (standing.main.state, standing.main.source, fates) == ("learned", "seed", ["merged"])

    def test_of_two_that_differ_the_newer_wins(self) -> None:
        start = learned(gold(intent="billing", sentiment="neutral"))
        standing, fates = hear(gold(intent="refund", source="reviewed"), start=start)

        main = standing.main
        assert (main.intent, main.sentiment, main.source) == ("refund", "neutral", "reviewed")
        assert (main.state, fates) == ("pending", ["accepted"])

    def test_the_same_again_changes_nothing(self) -> None:
        start = learned(gold("Where is my bill?", intent="billing", sentiment="neutral"))

        assert hear(gold(intent="billing", source="reviewed"), start=start) == (start, ["merged"])


class TestQuarantine:
    def quarantined(self, reason: str, intent: str = "billing") -> Standing:
        main = says("ann", intent).model_copy(
            update={"state": "quarantined", "reason": reason, "rejections": 2}
        )
        return Standing(main)

    def test_a_word_that_cannot_be_learned_is_kept_aside(self) -> None:
        standing, fates = hear(says("ann", "weather", reason="unknown label"))

        assert (standing.main.state, fates) == ("quarantined", ["quarantined"])

    def test_and_changes_nothing_that_can(self) -> None:
        start = learned(says("ann", "billing"))
        standing, fates = hear(says("bob", "weather", reason="unknown label"), start=start)

        assert (standing.main, fates) == (start.main, ["quarantined"])
        assert standing.rival is not None
        assert (standing.rival.intent, standing.rival.state) == ("weather", "quarantined")
        assert standing.live_rival is None

    def test_unless_it_is_the_same_turn_read_again(self) -> None:
        standing, _ = hear(
            says("ann", "weather", reason="unknown label"), start=learned(says("ann", "billing"))
        )

        assert (standing.main.intent, standing.main.state) == ("weather", "quarantined")

    def test_it_does_not_displace_a_side_of_a_conflict(self) -> None:
        before, _ = hear(says("ann", "billing"), says("bob", "refund"))

        assert hear(says("cid", "weather", reason="unknown label"), start=before)[0] == before

    @pytest.mark.parametrize("reason", ["consent", "unknown label 'x' for intent", "withdrawn"])
    def test_the_next_word_takes_its_place(self, reason: str) -> None:
        standing, fates = hear(says("bob", "refund"), start=self.quarantined(reason))

        main = standing.main
        assert (main.state, main.intent, main.users, main.reason) == ("pending", "refund", 1, None)
        assert (main.rejections, fates) == (0, ["accepted"])

    def test_what_did_harm_needs_more_than_the_same_user(self) -> None:
        start = self.quarantined("harmful")

        assert hear(says("ann", "billing", turn_id="t2"), start=start) == (start, ["quarantined"])
        assert hear(says("bob", "billing"), start=start)[0].main.users == 2
        assert hear(says("ann", "refund", turn_id="t2"), start=start)[0].main.state == "pending"
        assert hear(gold(intent="billing"), start=start)[0].main.state == "pending"


class TestWithdrawal:
    rating = says("ann", "billing", source="rating", quality=0.8)

    def test_a_rating_taken_back_leaves_nothing(self) -> None:
        main = withdrawn(learned(self.rating), "turn of ann").main

        assert (main.state, main.reason) == ("quarantined", "withdrawn")

    @pytest.mark.parametrize(
        "main",
        [
            says("ann", "billing"),
            rating.model_copy(update={"users": 2}),
            rating.model_copy(update={"turn_id": "x"}),
        ],
        ids=["a correction", "several users", "another turn"],
    )
    def test_other_words_stand(self, main: Example) -> None:
        assert withdrawn(Standing(main), "turn of ann") == Standing(main)

    def test_the_other_side_of_a_conflict_is_left(self) -> None:
        standing, _ = hear(self.rating, says("bob", "refund", source="rating", quality=0.8))
        assert standing.main.state == "conflict"

        mine, theirs = withdrawn(standing, "turn of bob"), withdrawn(standing, "turn of ann")
        assert (mine.main.intent, mine.main.state, mine.live_rival) == ("billing", "pending", None)
        assert (theirs.main.intent, theirs.main.state, theirs.live_rival) == ("refund", "pending", None)


class TestLedger:
    def test_it_tells_new_rows_from_altered_ones(self) -> None:
        stored = says("ann", "billing")
        ledger = Ledger({stored.key: stored})
        ledger.receive(says("bob", "refund"))
        ledger.receive(word("bob", "something else"))

        assert [row.key for row in ledger.altered()] == [stored.key]
        assert {row.key for row in ledger.born()} == {
            rival_key(stored.key),
            word("bob", "something else").key,
        }

    def test_what_did_not_change_is_not_written(self) -> None:
        stored = gold(intent="billing")
        ledger = Ledger({stored.key: stored})
        ledger.receive(says("bob", "refund"))

        assert not [*ledger.altered(), *ledger.born()]

    def test_withdrawing_what_is_unknown_does_nothing(self) -> None:
        ledger = Ledger({})
        ledger.withdraw("no such key", "t1")

        assert not [*ledger.altered(), *ledger.born()]
