"""Intake of gold into the real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.util import compile_infix_regex

from karen_learner.contracts import MemoryStore
from karen_learner.curation import Curator
from karen_learner.curation.alignment import tokenizer_of
from karen_learner.errors import LabelCollision
from karen_learner.records import Example, GoldReport, LabelledText, SkippedLine, UserFeedback
from karen_learner.settings import Settings
from tests.curation.specimens import turn

TENANT = "acme"


async def stored(store: MemoryStore, state: Any = "pending") -> dict[str, Example]:
    return {example.text: example async for example in store.examples(TENANT, state=state)}


async def test_texts_are_added_with_their_labels(store: MemoryStore, curator: Curator) -> None:
    report = await curator.add_gold(
        TENANT,
        [
            LabelledText(text="where is my bill", intent="billing", sentiment="neutral"),
            {"text": "cancel Gold", "intent": "cancel", "entities": [[7, 11, "PLAN"]]},
        ],
    )

    assert report == GoldReport(added=2)
    examples = await stored(store)
    assert {example.source for example in examples.values()} == {"seed"}
    assert {example.quality for example in examples.values()} == {1.0}
    labels = {task: set(counts) for task, counts in (await store.labels(TENANT)).items() if counts}
    assert labels == {"intent": {"billing", "cancel"}, "sentiment": {"neutral"}, "entities": {"PLAN"}}


async def test_labels_are_stored_in_composed_form_without_outer_space(
    store: MemoryStore, curator: Curator
) -> None:
    written = ["caf\u00e9", "cafe\u0301", " caf\u00e9\n", "\u200bcaf\u00e9\ufeff"]
    texts = [
        {"text": f"text {n}", "intent": label, "entities": [[0, 4, label]]} for n, label in enumerate(written)
    ]
    assert (await curator.add_gold(TENANT, texts)).added == 4
    examples = await stored(store)
    assert {example.intent for example in examples.values()} == {"caf\u00e9"}
    assert {span.label for example in examples.values() for span in example.entities or ()} == {"caf\u00e9"}
    assert set((await store.labels(TENANT))["intent"]) == {"caf\u00e9"}


async def test_labels_that_resemble_each_other_or_stored_ones_are_told(curator: Curator) -> None:
    first = await curator.add_gold(TENANT, [{"text": "pay", "intent": "pay_bill"}])
    assert first.notes == ()
    more = [{"text": "pay it", "intent": "Pay bill"}, {"text": "stop", "intent": "cancel"}]
    report = await curator.add_gold(TENANT, more)
    assert report.notes == ("labels of intent look the same: 'Pay bill' (1 text) and 'pay_bill' (stored)",)


async def test_equal_gold_is_merged(curator: Curator) -> None:
    texts = [LabelledText(text=text, intent="billing") for text in ("a bill", "A bill!", "my bill")]

    assert await curator.add_gold(TENANT, texts) == GoldReport(added=2, merged=1)
    assert await curator.add_gold(TENANT, texts, source="reviewed") == GoldReport(merged=3)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": " \n", "intent": "a"}, "the text is empty"),
        ({"text": "x\x00y", "intent": "a"}, "the text contains a NUL character"),
        ({"text": "x", "intent": "a\x00"}, "a label of intent contains a NUL character"),
        ({"text": "x", "intent": "  "}, "a label of intent is blank"),
        ({"text": "x"}, "the text has no label"),
        ({"text": "x", "intent": ""}, "intent: String should have at least 1 character"),
        ({"intent": "a"}, "text: Field required"),
        ({"text": "x", "intent": "a", "colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"text": "x" * 101, "intent": "a"}, "the text has 101 characters; at most 100 are allowed"),
        (
            {"text": "hello", "intent": "a", "entities": [[0, 9, "X"]]},
            "entity 'X' at 0-9 ends after the text, which has 5 characters",
        ),
        (
            {"text": "hello", "intent": "a", "entities": [[0, 5, "X"], [0, 5, "Y"]]},
            "entity 'Y' at 0-5 overlaps another entity",
        ),
        (
            {"text": "hello", "entities": [[1, 5, "X"]]},
            "entity 'X' at 1-5 is not aligned with the tokens",
        ),
    ],
)
async def test_an_unusable_record_is_skipped_with_the_reason(
    record: dict[str, Any], reason: str, store: MemoryStore, settings: Settings
) -> None:
    settings.analysis.update({"max_text_chars": 100})
    report = await Curator(store, settings).add_gold(TENANT, [{"text": "fine", "intent": "a"}, record])

    assert (report.added, report.skipped_count) == (1, 1)
    assert report.skipped == (SkippedLine(line=2, reason=reason),)


async def test_a_text_with_a_lone_surrogate_is_skipped(curator: Curator) -> None:
    broken = LabelledText.model_construct(text="x\ud800", intent="a", sentiment=None, entities=None)
    report = await curator.add_gold(TENANT, [broken])

    assert report.skipped[0].reason == "the text contains a lone surrogate: it was decoded wrongly"


async def test_what_fits_of_the_entities_stays(store: MemoryStore, curator: Curator) -> None:
    text = "fly from  Rome to Paris"
    spans = [[9, 15, "CITY"], [18, 21, "CITY"], [0, 3, "VERB"]]
    report = await curator.add_gold(TENANT, [{"text": text, "entities": spans}])

    assert (report.added, report.entities_dropped_count) == (1, 1)
    assert report.entities_dropped[0].reason == "entity 'CITY' at 18-21 is not aligned with the tokens"
    kept = (await stored(store))[text]
    assert [(text[span.start : span.end], span.label) for span in kept.entities or ()] == [
        ("Rome", "CITY"),
        ("fly", "VERB"),
    ]
    assert kept.unannotated == ((18, 21),)


async def test_the_tokenizer_of_the_tenant_decides(store: MemoryStore, settings: Settings) -> None:
    nlp = spacy.blank("en")
    nlp.tokenizer.infix_finditer = compile_infix_regex([*nlp.Defaults.infixes, "_"]).finditer  # type: ignore[union-attr]

    async def tokenizer(tenant_id: str) -> Language | None:
        return tokenizer_of(nlp) if tenant_id == TENANT else None

    curator = Curator(store, settings, tokenizers=tokenizer)
    gold = [{"text": "reset router_ax12", "entities": [[13, 17, "model"]]}]
    assert (await curator.add_gold(TENANT, gold)).added == 1
    assert (await curator.add_gold("another", gold)).added == 0


async def test_misaligned_entities_are_dropped_if_other_labels_remain(
    store: MemoryStore, curator: Curator
) -> None:
    report = await curator.add_gold(TENANT, [{"text": "hello", "intent": "a", "entities": [[1, 5, "X"]]}])

    assert (report.added, report.skipped_count, report.entities_dropped_count) == (1, 0, 1)
    assert report.entities_dropped[0].reason == "entity 'X' at 1-5 is not aligned with the tokens"
    assert (await stored(store))["hello"].entities is None
    assert not (await store.labels(TENANT)).get("entities")


async def test_the_first_thousand_skipped_records_are_listed(curator: Curator) -> None:
    report = await curator.add_gold(TENANT, ({"text": "", "intent": "a"} for _ in range(1003)))

    assert (report.skipped_count, len(report.skipped), report.skipped[-1].line) == (1003, 1000, 1000)


async def test_a_label_of_two_tasks_is_refused_before_anything_is_written(
    store: MemoryStore, curator: Curator
) -> None:
    texts = [{"text": f"text {at}", "intent": "billing"} for at in range(30)]
    with pytest.raises(LabelCollision, match="'billing': used for intents and for sentiments"):
        await curator.add_gold(TENANT, [*texts, {"text": "last", "sentiment": "billing"}])
    assert await stored(store) == {}
    assert not any((await store.labels(TENANT)).values())

    await curator.add_gold(TENANT, texts)
    with pytest.raises(LabelCollision):
        await curator.add_gold(TENANT, [{"text": "later", "sentiment": "billing"}])


async def test_an_entity_label_may_be_an_intent_too(curator: Curator) -> None:
    assert (
        await curator.add_gold(TENANT, [{"text": "plan", "intent": "x", "entities": [[0, 4, "x"]]}])
    ).added == 1


async def test_a_stream_may_be_asynchronous_and_long(store: MemoryStore, curator: Curator) -> None:
    async def stream() -> AsyncIterator[dict[str, Any]]:
        for at in range(100):
            yield {"text": f"{'ab'[at % 2]} {chr(97 + at // 10)}{chr(97 + at % 10)}", "intent": "ab"[at % 2]}

    assert (await curator.add_gold(TENANT, stream())).added == 100
    assert len(await stored(store)) == (await store.counts(TENANT)).gold == 100


async def test_gold_wins_over_feedback(store: MemoryStore, curator: Curator) -> None:
    await curator.add_gold(TENANT, [{"text": "a", "intent": "billing"}, {"text": "b", "intent": "refund"}])
    await store.add_turn(turn("hello", feedback={"corrected_intent": "billing"}))
    await curator.curate(TENANT)

    assert (await curator.add_gold(TENANT, [{"text": "Hello", "intent": "refund"}])).added == 1
    found = (await stored(store))["Hello"]
    assert (found.intent, found.source, found.user_id) == ("refund", "seed", None)


async def test_quarantined_feedback_is_released_when_gold_declares_its_label(
    store: MemoryStore, curator: Curator
) -> None:
    await curator.add_gold(TENANT, [{"text": "a", "intent": "billing"}])
    await store.add_turn(turn("snow?", feedback={"corrected_intent": "weather"}, turn_id="t1"))
    await store.add_turn(turn("a", feedback={"corrected_intent": "weather"}, turn_id="t2"))
    await store.add_turn(turn("b", feedback={"corrected_intent": "unknown"}, turn_id="t3"))
    await curator.curate(TENANT)
    assert len(await stored(store, "quarantined")) == 2

    await curator.add_gold(TENANT, [{"text": "is it cold", "intent": "weather"}])
    pending = await stored(store)
    assert (pending["snow?"].intent, pending["snow?"].reason, pending["snow?"].users) == ("weather", None, 1)
    assert pending["a"].intent == "billing"
    reasons = {example.text: example.reason for example in (await stored(store, "quarantined")).values()}
    assert reasons == {"b": "unknown label 'unknown' for intent"}
    unusable = [each.text async for page in store.unusable_contributions(TENANT) for each in page]
    assert unusable == ["b"]


async def test_reviewed_gold_keeps_the_person_of_its_turn(store: MemoryStore, curator: Curator) -> None:
    await store.add_turn(turn("hello", turn_id="t1", user_id="ann"))
    records = [
        {"text": "Hello", "intent": "greet", "turn_id": "t1", "user_id": "ann"},
        {"text": "bye", "intent": "leave", "turn_id": "t2"},
        {"text": "thanks", "intent": "leave"},
    ]
    assert (await curator.add_gold(TENANT, records, source="reviewed")).added == 3
    keys = {text: example.key for text, example in (await stored(store)).items()}
    people = {keys["Hello"]: ("ann",), keys["bye"]: ("turn:t2",)}
    assert await store.contributors(TENANT, list(keys.values())) == people

    await store.add_feedback(TENANT, "t1", UserFeedback(consent=False))
    assert set(await stored(store)) == {"bye", "thanks"}
    assert {example.reason for example in (await stored(store, "quarantined")).values()} == {"consent"}


async def test_reviewed_gold_of_a_turn_without_consent_is_not_stored(
    store: MemoryStore, curator: Curator
) -> None:
    await store.add_turn(turn("hello", turn_id="t1", feedback={"consent": False}))
    await curator.add_gold(TENANT, [{"text": "hello", "intent": "greet", "turn_id": "t1"}])

    assert await stored(store) == {}
    assert [example.text for example in (await stored(store, "quarantined")).values()] == [""]


async def test_gold_that_several_people_contradict_later_is_set_aside(
    store: MemoryStore, curator: Curator
) -> None:
    gold = [{"text": "cancel it", "intent": "cancel"}, {"text": "b", "intent": "refund"}]
    await curator.add_gold(TENANT, gold)
    for user in ("ann", "bob", "cid"):
        correction = {"corrected_intent": "refund"}
        await store.add_turn(turn("Cancel it", feedback=correction, user_id=user, turn_id=f"turn of {user}"))
    await curator.curate(TENANT)
    example = (await stored(store))["Cancel it"]
    assert (example.intent, example.source, example.users) == ("refund", "correction", 3)
    assert example.reason == "gold intent 'cancel' set aside by 3 users"

    await curator.add_gold(TENANT, gold)
    example = (await stored(store))["cancel it"]
    assert (example.intent, example.source, example.reason) == ("cancel", "seed", None)


async def test_withdrawn_consent_leaves_gold_aside_until_curation(
    store: MemoryStore, curator: Curator
) -> None:
    await curator.add_gold(
        TENANT, [{"text": "cancel it", "intent": "cancel"}, {"text": "b", "intent": "refund"}]
    )
    correction = {"corrected_intent": "refund"}
    for user in ("ann", "bob", "cid"):
        await store.add_turn(turn("cancel it", feedback=correction, user_id=user, turn_id=f"turn of {user}"))
    await curator.curate(TENANT)
    await store.add_feedback(TENANT, "turn of ann", UserFeedback(consent=False))
    example = (await stored(store))["cancel it"]
    assert (example.intent, example.users) == ("refund", 2)

    await store.add_turn(turn("cancel it", feedback=correction, user_id="bob", turn_id="another of bob"))
    await curator.curate(TENANT)
    example = (await stored(store))["cancel it"]
    assert (example.intent, example.source) == ("cancel", "seed")


async def test_a_label_that_several_people_use_is_declared(store: MemoryStore, curator: Curator) -> None:
    await curator.add_gold(TENANT, [{"text": "a", "intent": "billing", "sentiment": "fine"}])

    async def correct(user: str, label: str, **changes: str) -> None:
        feedback = {"corrected_intent": label} | changes
        name = f"{user}: {label}"
        await store.add_turn(turn(name, feedback=feedback, user_id=user, turn_id=name))

    for user in ("ann", "bob", "cid"):
        await correct(user, "fine")  # a sentiment
    await correct("ann", "weather")
    await correct("bob", "weather")
    await curator.curate(TENANT)
    assert set(await stored(store)) == {"a"}

    await correct("cid", "weather")
    await curator.curate(TENANT)
    pending = await stored(store)
    assert {pending[f"{user}: weather"].intent for user in ("ann", "bob", "cid")} == {"weather"}
    assert (await store.labels(TENANT))["intent"] == {"billing": 1, "weather": 3}
    assert len(await stored(store, "quarantined")) == 3


async def test_feedback_does_not_add_a_task(store: MemoryStore, curator: Curator) -> None:
    await curator.add_gold(TENANT, [{"text": "a", "intent": "billing"}])
    for user in ("ann", "bob", "cid"):
        feedback = {"corrected_sentiment": "fine"}
        await store.add_turn(turn(f"text of {user}", feedback=feedback, user_id=user, turn_id=user))
    await curator.curate(TENANT)

    assert not (await store.labels(TENANT))["sentiment"]
    assert len(await stored(store, "quarantined")) == 3


async def test_no_records_add_nothing(store: MemoryStore, curator: Curator) -> None:
    assert await curator.add_gold(TENANT, []) == GoldReport()
