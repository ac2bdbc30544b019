"""Labels are renamed, merged and retired, in examples and in all that people say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karen_learner.contracts import MemoryStore
from karen_learner.curation import Curator
from karen_learner.curation.label_editor import Edit, LabelEditor
from karen_learner.errors import InvalidInput, LabelCollision
from karen_learner.memory import open_store
from karen_learner.records import CurationWrite, Example, Task
from karen_learner.records.labels import LabelReport
from karen_learner.settings import Settings
from tests.curation.specimens import gold, turn

TENANT = "acme"
BILLING = ["where is my bill", "send me the bill", "my bill is wrong"]
CANCEL = ["cancel it", "stop my plan"]
TEXTS = [{"text": text, "intent": "billing"} for text in BILLING] + [
    {"text": text, "intent": "cancel", "sentiment": "negative"} for text in CANCEL
]


@pytest.fixture
def editor(store: MemoryStore, curator: Curator) -> LabelEditor:
    return LabelEditor(store, curator)


async def examples_of(store: MemoryStore) -> dict[str, Example]:
    return {
        example.text: example
        for state in ("pending", "learned", "conflict", "quarantined")
        async for example in store.examples(TENANT, state=state)  # type: ignore[arg-type]
    }


async def say(store: MemoryStore, curator: Curator, text: str, user: str, **feedback: Any) -> None:
    await store.add_turn(turn(text, turn_id=f"{user}: {text}", user_id=user, feedback=feedback))
    await curator.curate(TENANT)


async def intents(store: MemoryStore) -> dict[str, int]:
    return dict((await store.labels(TENANT))["intent"])


async def change(
    editor: LabelEditor,
    edit: Edit,
    label: str,
    to: str | None = None,
    *,
    task: Task | None = None,
    dry: bool = False,
) -> LabelReport:
    return await editor.edit(TENANT, edit, label, to, task=task, dry_run=dry)


async def test_a_renamed_label_is_heard_under_its_new_name(
    store: MemoryStore, curator: Curator, editor: LabelEditor
) -> None:
    await curator.add_gold(TENANT, TEXTS)
    await say(store, curator, "how much is it", "ann", corrected_intent="billing")
    await store.add_turn(turn("and now", turn_id="awaiting", feedback={"corrected_intent": "billing"}))
    report = await change(editor, "rename", "billing", "invoice")
    assert (report.task, report.examples, report.gold, report.set_aside) == ("intent", 4, 3, 0)
    await curator.curate(TENANT)
    await say(store, curator, "a later one", "bob", corrected_intent="billing")
    await curator.add_gold(TENANT, [{"text": "an old file", "intent": "billing"}])
    found = await examples_of(store)
    for text in (*BILLING, "how much is it", "and now", "a later one", "an old file"):
        assert (found[text].intent, found[text].stratum, found[text].state) == (
            "invoice",
            "invoice",
            "pending",
        )
    assert await intents(store) == {"cancel": 2, "invoice": 7}
    assert [row.formerly for row in await editor.rows(TENANT, ())] == [(), ("billing",), ()]


async def test_detected_labels_have_their_present_name(
    store: MemoryStore, curator: Curator, editor: LabelEditor
) -> None:
    await curator.add_gold(TENANT, TEXTS)
    await change(editor, "rename", "billing", "invoice")
    await say(
        store, curator, "fine", "ann", satisfaction_score=1.0, response_quality=1.0
    )  # confirms `billing`
    assert (await examples_of(store))["fine"].intent == "invoice"


async def test_learned_examples_stay_learned(
    store: MemoryStore, curator: Curator, editor: LabelEditor
) -> None:
    learned = gold("where is my bill", intent="billing").model_copy(
        update={"state": "learned", "learned_in": "v1"}
    )
    await store.save_curation(TENANT, CurationWrite(upserts=[learned]))
    await store.declare_labels(TENANT, {"intent": ["billing"]})
    await change(editor, "rename", "billing", "invoice")
    (after,) = (await examples_of(store)).values()
    assert (after.intent, after.state, after.learned_in) == ("invoice", "learned", "v1")


async def test_merged_labels_end_their_conflict(
    store: MemoryStore, curator: Curator, editor: LabelEditor
) -> None:
    await curator.add_gold(TENANT, TEXTS)
    await say(store, curator, "the invoice", "ann", corrected_intent="billing")
    await say(store, curator, "the invoice", "bob", corrected_intent="cancel")
    assert (await examples_of(store))["the invoice"].state == "conflict"
    report = await change(editor, "merge", "cancel", "billing")
    assert report.contributions == 3
    merged = (await examples_of(store))["the invoice"]
    assert (merged.state, merged.intent, merged.users) == ("pending", "billing", 2)
    assert await intents(store) == {"billing": 6}


async def test_a_label_of_feedback_alone_is_merged_into_one_of_the_schema(
    store: MemoryStore, curator: Curator, editor: LabelEditor
) -> None:
    await curator.add_gold(TENANT, TEXTS)
    await say(store, curator, "the invoice", "ann", corrected_intent="biling")
    assert (await examples_of(store))["the invoice"].state == "quarantined"
    await change(editor, "merge", "biling", "billing")
    merged = (await examples_of(store))["the invoice"]
    assert (merged.state, merged.intent) == ("pending", "billing")


async def test_a_retired_label_is_unknown(store: MemoryStore, curator: Curator, editor: LabelEditor) -> None:
    await curator.add_gold(
        TENANT, [*TEXTS, {"text": "to Rome", "intent": "billing", "entities": [[3, 7, "CITY"]]}]
    )
    assert (await change(editor, "retire", "cancel")).set_aside == 0
    assert (await change(editor, "retire", "billing")).set_aside == 3
    assert (await change(editor, "retire", "CITY")).set_aside == 0
    found = await examples_of(store)
    assert {found[text].state for text in BILLING} == {"quarantined"}
    assert [(found[text].intent, found[text].sentiment) for text in CANCEL] == [(None, "negative")] * 2
    assert (found["to Rome"].intent, found["to Rome"].entities) == (None, ())
    await say(store, curator, "again", "ann", corrected_intent="billing")
    assert "again" not in await examples_of(store)
    assert await intents(store) == {}
    await curator.add_gold(TENANT, [{"text": "it is back", "intent": "billing"}])
    assert (await examples_of(store))[BILLING[0]].state == "pending", "gold brings the label back"


async def test_names_can_change_again_and_back(
    store: MemoryStore, curator: Curator, editor: LabelEditor
) -> None:
    await curator.add_gold(TENANT, TEXTS)
    await change(editor, "rename", "billing", "invoice")
    await change(editor, "rename", "invoice", "payment")
    assert await store.label_successors(TENANT) == {"intent": {"billing": "payment", "invoice": "payment"}}
    await change(editor, "rename", "payment", "billing")
    assert await store.label_successors(TENANT) == {"intent": {"invoice": "billing", "payment": "billing"}}
    assert await intents(store) == {"billing": 3, "cancel": 2}


async def test_entities_are_renamed(store: MemoryStore, curator: Curator, editor: LabelEditor) -> None:
    await curator.add_gold(TENANT, [{"text": "Rome to Oslo", "entities": [[0, 4, "CITY"], [8, 12, "GOAL"]]}])
    await change(editor, "merge", "GOAL", "CITY")
    (example,) = (await examples_of(store)).values()
    assert [span.label for span in example.entities or ()] == ["CITY", "CITY"]
    assert (await store.labels(TENANT))["entities"] == {"CITY": 1}


@pytest.mark.parametrize(
    ("edit", "label", "to", "task", "message"),
    [
        ("rename", "biling", "x", None, "no text has the label 'biling'; did you mean 'billing'"),
        ("rename", "billing", "cancel", None, "already: merge the two"),
        ("merge", "billing", "nothing", None, "no label 'nothing' of intent: rename 'billing'"),
        ("rename", "billing", "billing", None, "is 'billing' already"),
        ("rename", "billing", " ", None, "cannot be a label"),
        ("rename", "billing", "", None, "1 to 200 characters"),
        ("rename", "billing", "x" * 201, None, "1 to 200 characters"),
        ("rename", "billing", "x", "mood", "unknown task 'mood'"),
        ("retire", "billing", None, "sentiment", "no text has the label"),
        ("retire", "both", None, None, "'both' is a label of intent and entities: name the task"),
    ],
)
async def test_unfit_changes_are_refused(
    store: MemoryStore,
    curator: Curator,
    editor: LabelEditor,
    edit: Edit,
    label: str,
    to: str,
    task: Any,
    message: str,
) -> None:
    await curator.add_gold(TENANT, [*TEXTS, {"text": "Rome", "intent": "both", "entities": [[0, 4, "both"]]}])
    before = await examples_of(store)
    with pytest.raises(InvalidInput, match=message):
        await change(editor, edit, label, to, task=task)
    assert await examples_of(store) == before
    assert await store.label_successors(TENANT) == {}


async def test_a_name_of_the_other_category_task_is_refused(curator: Curator, editor: LabelEditor) -> None:
    await curator.add_gold(TENANT, TEXTS)
    with pytest.raises(LabelCollision, match="negative"):
        await change(editor, "rename", "billing", "negative")


async def test_a_dry_run_changes_nothing(store: MemoryStore, curator: Curator, editor: LabelEditor) -> None:
    await curator.add_gold(TENANT, TEXTS)
    before = await examples_of(store), await store.labels(TENANT)
    plan = await change(editor, "rename", "billing", "invoice", dry=True)
    assert (plan.examples, plan.done) == (3, False)
    assert (await examples_of(store), await store.labels(TENANT)) == before
    assert await store.label_successors(TENANT) == {}


async def test_a_page_that_was_curated_before_a_change_is_not_written(
    store: MemoryStore, curator: Curator, editor: LabelEditor
) -> None:
    await curator.add_gold(TENANT, TEXTS)
    page = CurationWrite(upserts=[gold("made before", intent="billing")])
    await change(editor, "rename", "billing", "invoice")
    assert await store.save_curation(TENANT, page) is False
    assert "made before" not in await examples_of(store)


# Imports that rename ---------------------------------------------------------------------------


@pytest.mark.parametrize("replace", [False, True])
async def test_an_import_renames_a_label_whose_gold_all_has_a_new_name(
    store: MemoryStore, curator: Curator, replace: bool
) -> None:
    await curator.add_gold(TENANT, TEXTS)
    await say(store, curator, "how much is it", "ann", corrected_intent="billing")
    anew = [{**each, "intent": "invoice"} if each["intent"] == "billing" else each for each in TEXTS]
    report = await curator.add_gold(TENANT, anew, replace=replace)
    assert (report.skipped_count, report.contradictions) == (0, 0)
    assert (await examples_of(store))["how much is it"].intent == "invoice"
    assert await intents(store) == {"cancel": 2, "invoice": 4}


@pytest.mark.parametrize(
    "changed",
    [
        [("invoice", BILLING[:2])],  # not all of it
        [("invoice", BILLING[:2]), ("payment", BILLING[2:])],  # two new names
        [("cancel", BILLING)],  # no new name
        [("negative", BILLING)],  # a sentiment
    ],
)
async def test_other_contradictions_rename_nothing(
    store: MemoryStore, curator: Curator, changed: list[tuple[str, list[str]]]
) -> None:
    await curator.add_gold(TENANT, TEXTS)
    anew = [{"text": text, "intent": name} for name, texts in changed for text in texts]
    report = await curator.add_gold(TENANT, anew)
    assert report.contradictions == len(anew)
    assert [skipped.line for skipped in report.skipped] == list(range(1, len(anew) + 1))
    assert await store.label_successors(TENANT) == {}
    assert await intents(store) == {"billing": 3, "cancel": 2}


# Any changes -----------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "d")
names = st.sampled_from(NAMES)
edits = st.tuples(st.sampled_from(["rename", "merge", "retire"]), names, names)
steps = st.lists(
    st.one_of(
        edits,
        st.tuples(st.just("gold"), st.sampled_from(["one", "two", "three"]), names),
        st.tuples(st.just("say"), st.sampled_from(["one", "two", "four"]), names),
    ),
    max_size=12,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
async def test_after_any_changes_no_usable_label_is_a_former_one(
    steps: list[tuple[Any, str, str]],
) -> None:
    from karen_learner.settings import load_settings

    loaded: Settings = load_settings(overrides={"store.page_size": 3}, environment={})
    async with open_store(":memory:", loaded.store) as store:
        curator = Curator(store, loaded)
        editor = LabelEditor(store, curator)
        for number, (kind, first, second) in enumerate(steps):
            if kind == "gold":
                await curator.add_gold(TENANT, [{"text": first, "intent": second}], replace=True)
            elif kind == "say":
                said = turn(
                    first, turn_id=str(number), user_id=str(number), feedback={"corrected_intent": second}
                )
                await store.add_turn(said)
                await curator.curate(TENANT)
            else:
                try:
                    await change(editor, kind, first, None if kind == "retire" else second)
                except InvalidInput:
                    continue
        former = (await store.label_successors(TENANT)).get("intent", {})
        schema = await intents(store)
        assert not former.keys() & schema.keys()
        assert all(successor is None or successor in schema for successor in former.values())
        found = await examples_of(store)
        usable = {one.intent for one in found.values() if one.state in ("pending", "learned", "conflict")}
        assert usable <= {*schema, None}
        said_by_key = await store.contributions(TENANT, [one.key for one in found.values()])
        heard = {each.intent for several in said_by_key.values() for each in several if each.reason is None}
        assert not heard & former.keys()
