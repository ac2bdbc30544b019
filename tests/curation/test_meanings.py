"""Intents whose meaning has changed, and the examples with the former meaning."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from karen_learner.contracts import MemoryStore
from karen_learner.curation import Curator
from karen_learner.curation.meanings import StatedIntent, changed_meanings, stated_intent
from karen_learner.records import Example, ExampleState, Turn, UserFeedback, utc_now
from tests.curation.specimens import turn

TENANT = "acme"
NOW = utc_now()


def said(
    count: int,
    detected: str,
    stated: str | None,
    *,
    start: int = 0,
    people: int = 50,
    confidence: float = 0.95,
) -> list[StatedIntent]:
    return [
        StatedIntent(
            turn_id=f"turn {start + number}",
            at=NOW + timedelta(minutes=start + number),
            person=f"user {number % people}",
            detected=detected,
            confidence=confidence,
            stated=stated,
        )
        for number in range(count)
    ]  # fmt: skip


STEADY = [*said(20, "billing", "billing"), *said(20, "refund", "refund"), *said(60, "hello", "hello")]


def found(*later: Sequence[StatedIntent], quorum: int = 3) -> list[tuple[str, str, int]]:
    everything = [*STEADY, *(one for several in later for one in several)]
    return [(one.former, one.present, one.people) for one in changed_meanings(everything, quorum=quorum)]


def test_several_people_change_a_meaning() -> None:
    change = changed_meanings([*STEADY, *said(6, "billing", "refund", start=100)], quorum=3)
    assert [(one.former, one.present, one.people) for one in change] == [("billing", "refund", 6)]
    assert change[0].since == NOW + timedelta(minutes=100)


@pytest.mark.parametrize("people", [1, 2])
def test_fewer_people_than_the_quorum_change_nothing(people: int) -> None:
    assert found(said(100, "billing", "refund", start=100, people=people)) == []


def test_two_labels_that_exchange_their_meanings_are_found() -> None:
    exchanged = [*said(6, "billing", "refund", start=100), *said(6, "refund", "billing", start=200)]
    assert sorted(found(exchanged)) == [("billing", "refund", 6), ("refund", "billing", 6)]


def test_errors_of_which_the_model_is_unsure_change_nothing() -> None:
    assert found(said(6, "billing", "refund", start=100, confidence=0.4)) == []


def test_corrections_without_confirmations_change_nothing() -> None:
    silent = [
        *said(200, "billing", None),
        *said(200, "refund", None),
        *said(20, "billing", "refund", start=300),
    ]
    assert changed_meanings(silent, quorum=3) == []


def test_a_label_that_is_still_confirmed_keeps_its_meaning() -> None:
    later = said(6, "billing", "refund", start=100)
    confirmed = said(2, "billing", "billing", start=103, people=2)
    assert found([*later[:3], *confirmed, *later[3:]]) == []


def test_texts_of_a_new_label_change_no_meaning() -> None:
    assert found(said(6, "billing", "delivery", start=100)) == []


def test_texts_of_a_new_label_hide_no_changed_meaning() -> None:
    new = said(20, "billing", "delivery", start=50, confidence=0.4)
    assert found(new, said(6, "billing", "refund", start=100)) == [("billing", "refund", 6)]


def test_random_corrections_change_no_meaning() -> None:
    rng = random.Random(0)
    labels = ["billing", "refund", "hello"]
    noise = [
        one for at in range(60) for one in said(1, rng.choice(labels), rng.choice(labels), start=100 + at)
    ]
    assert found(noise) == []


def feedback(detected: str, number: int, **values: Any) -> Turn:
    return turn(
        f"text {chr(97 + number // 26)}{chr(97 + number % 26)}",
        feedback=values or None,
        turn_id=f"turn {number}",
        user_id=f"user {number}",
        intent_detected=detected,
        intent_confidence=0.95,
    )


def test_a_good_rating_states_the_detected_intent_and_a_poor_one_nothing() -> None:
    assert [
        one.stated if (one := stated_intent(each)) else "?"
        for each in (
            feedback("billing", 1, satisfaction_score=0.9),
            feedback("billing", 1, satisfaction_score=0.1),
            feedback("billing", 1, satisfaction_score=0.9, corrected_intent="refund"),
            feedback("billing", 1),
        )
    ] == ["billing", None, "refund", None]


async def changed_store(store: MemoryStore, curator: Curator) -> None:
    """Gold of three intents, their use, and the new use of one of them."""
    intents = ("billing", "refund", "hello")
    await curator.add_gold(
        TENANT, [{"text": f"{one} {at}x", "intent": one} for one in intents for at in "abc"]
    )
    for number in range(30):
        detected = intents[number % 3]
        await store.add_turn(feedback(detected, number, corrected_intent=detected))
    for number in range(30, 36):
        await store.add_turn(feedback("billing", number, corrected_intent="refund"))
    await curator.curate(TENANT)


async def renew(store: MemoryStore, curator: Curator) -> None:
    [older] = (await curator.outdated(TENANT)).values()
    await curator.store_renewed(TENANT, older, learned_in="v2", token=None)


async def examples_of(store: MemoryStore, state: ExampleState, intent: str) -> list[Example]:
    return [one async for one in store.examples(TENANT, state=state) if one.intent == intent]


async def test_older_examples_get_the_present_intent_until_their_gold_is_added_again(
    store: MemoryStore, curator: Curator
) -> None:
    await changed_store(store, curator)
    [(change, older)] = (await curator.outdated(TENANT)).items()
    assert change.startswith("6 people say 'refund' for texts of 'billing': 13 older examples")
    await renew(store, curator)
    assert await examples_of(store, "pending", "billing") == []
    renewed = await examples_of(store, "learned", "refund")
    assert {one.key for one in renewed} == {one.example.key for one in older}
    assert {(one.source, one.users, one.learned_in) for one in renewed} == {("correction", 3, "v2")}
    reasons = {one.reason for one in renewed if one.text.endswith("x")}
    assert reasons == {"gold intent 'billing' set aside by 3 users"}
    assert await curator.outdated(TENANT) == {}, "nothing is renewed twice"
    await curator.add_gold(TENANT, [{"text": "billing ax", "intent": "billing"}])
    assert [one.text for one in await examples_of(store, "pending", "billing")] == ["billing ax"]
    assert await curator.outdated(TENANT) == {}, "the decision of a person lasts"


async def test_withdrawn_consent_restores_the_gold_intent(store: MemoryStore, curator: Curator) -> None:
    await changed_store(store, curator)
    await renew(store, curator)
    for number in range(33, 36):
        await store.add_feedback(TENANT, f"turn {number}", UserFeedback(consent=False))
    gold = [one for one in await examples_of(store, "pending", "billing") if one.is_gold]
    assert sorted(one.text for one in gold) == ["billing ax", "billing bx", "billing cx"]


async def test_an_example_that_has_changed_since_keeps_its_intent(
    store: MemoryStore, curator: Curator
) -> None:
    await changed_store(store, curator)
    [older] = (await curator.outdated(TENANT)).values()
    await curator.add_gold(TENANT, [{"text": "billing ax", "intent": "billing"}])
    await curator.store_renewed(TENANT, older, learned_in="v2", token=None)
    assert [one.text for one in await examples_of(store, "pending", "billing")] == ["billing ax"]
