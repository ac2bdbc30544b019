"""Gold that gives one text two labels is told with both lines and kept out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.contracts import MemoryStore
from karen_learner.corpora.lines import Line
from karen_learner.curation import Curator
from karen_learner.curation.contradictions import Statement, contradiction, stated_labels
from karen_learner.records import GoldReport, LabelledText, SkippedLine
from tests.curation.specimens import turn

TENANT = "acme"


def labelled(text: str, **labels: Any) -> LabelledText:
    return LabelledText.model_validate({"text": text, **labels})


async def stored(store: MemoryStore, state: Any = "pending") -> dict[str, str | None]:
    return {example.text: example.intent async for example in store.examples(TENANT, state=state)}


async def test_later_records_of_a_batch_are_kept_out(store: MemoryStore, curator: Curator) -> None:
    gold = [
        labelled("pay bill", intent="pay_bill"),
        labelled("pay bill", intent="payment_check"),
        labelled("Pay Bill!", intent="dunning"),
        labelled("pay bill", intent="pay_bill", sentiment="neutral"),
        labelled("pay bill", sentiment="angry"),
    ]
    report = await curator.add_gold(TENANT, gold)
    assert (report.added, report.merged, report.contradictions, report.skipped_count) == (1, 1, 3, 3)
    assert report.skipped == (
        SkippedLine(line=2, reason="intent 'payment_check' contradicts 'pay_bill' of line 1"),
        SkippedLine(line=3, reason="intent 'dunning' contradicts 'pay_bill' of line 1"),
        SkippedLine(line=5, reason="sentiment 'angry' contradicts 'neutral' of line 4"),
    )
    assert await stored(store) == {"pay bill": "pay_bill"}
    assert set((await store.labels(TENANT))["intent"]) == {"pay_bill"}, "their labels are not declared"


async def test_lines_of_a_file_keep_their_numbers(curator: Curator) -> None:
    lines = [Line(7, labelled("pay bill", intent="a")), Line(30, labelled("pay bill", intent="b"))]
    report = await curator.add_gold(TENANT, lines)
    assert report.skipped == (SkippedLine(line=30, reason="intent 'b' contradicts 'a' of line 7"),)


async def test_stored_gold_is_replaced_on_request_only(store: MemoryStore, curator: Curator) -> None:
    await curator.add_gold(TENANT, [labelled("pay bill", intent="a"), labelled("other", intent="b")])
    again = [labelled("Pay bill", intent="b"), labelled("other", intent="b", sentiment="neutral")]
    report = await curator.add_gold(TENANT, again)
    assert (report.merged, report.contradictions) == (1, 1)
    assert report.skipped[0].reason == "intent 'b' contradicts 'a' of stored gold"
    assert await stored(store) == {"pay bill": "a", "other": "b"}

    assert await curator.add_gold(TENANT, again, replace=True) == GoldReport(added=1, merged=1)
    assert await stored(store) == {"Pay bill": "b", "other": "b"}


async def test_replacing_gold_does_not_excuse_a_batch_that_contradicts_itself(curator: Curator) -> None:
    gold = [labelled("pay bill", intent="a"), labelled("pay bill", intent="b")]
    report = await curator.add_gold(TENANT, gold, replace=True)
    assert (report.added, report.contradictions) == (1, 1)


async def test_feedback_and_reviews_of_the_same_turn_are_no_contradiction(
    store: MemoryStore, curator: Curator
) -> None:
    await curator.add_gold(TENANT, [labelled("a", intent="x"), labelled("b", intent="y")])
    await store.add_turn(turn("hello", turn_id="t1", feedback={"corrected_intent": "x"}))
    await curator.curate(TENANT)
    reviewed = {"text": "hello", "turn_id": "t1", "user_id": "ann"}
    for intent in ("y", "x"):
        report = await curator.add_gold(TENANT, [{**reviewed, "intent": intent}], source="reviewed")
        assert (report.added, report.contradictions) == (1, 0)
    report = await curator.add_gold(TENANT, [{**reviewed, "turn_id": "t2", "intent": "y"}], source="reviewed")
    assert report.contradictions == 1


@pytest.mark.parametrize(
    ("first", "second", "contradicts"),
    [
        ({"entities": [[3, 7, "place"]]}, {"entities": [[3, 7, "place"]]}, False),
        ({"entities": [[3, 7, "place"]]}, {"entities": [[3, 7, "city"]]}, True),
        ({"entities": [[3, 7, "place"]]}, {"entities": []}, True),
        ({"entities": [[3, 7, "place"]]}, {"entities": [[13, 17, "place"]]}, True),
        ({"entities": [[3, 7, "place"]]}, {"intent": "travel"}, False),
        ({"entities": [[3, 7, "place"]]}, {"entities": [[13, 17, "place"], [3, 7, None]]}, False),
    ],
)
def test_entities_are_compared_as_a_whole(first: Any, second: Any, contradicts: bool) -> None:
    one, two = (labelled("to Oslo from Oslo", **labels) for labels in (first, second))
    stated = {task: Statement(label, 1) for task, label in stated_labels(one).items()}
    assert (contradiction(stated_labels(two), stated) is not None) == contradicts


@given(st.text("ab \u0301É", max_size=6), st.sampled_from(["", "  ", "...", "“"]), st.booleans())
def test_case_and_outer_punctuation_do_not_make_entities_differ(middle: str, outer: str, upper: bool) -> None:
    plain = labelled(f"to {middle}oslo", entities=[[3 + len(middle), 7 + len(middle), "place"]])
    at = 3 + len(middle) + len(outer)
    text = f"{outer}to {middle}{'OSLO' if upper else 'oslo'}"
    assert stated_labels(labelled(text, entities=[[at, at + 4, "place"]])) == stated_labels(plain)
