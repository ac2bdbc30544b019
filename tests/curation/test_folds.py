"""Folds: no shadow judges an example after it learned from the same group or from one of its people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.contracts import MemoryStore
from karen_learner.curation import Curated, Curator
from karen_learner.curation.folds import (
    ENOUGH_JUDGED,
    LONG_HISTORY,
    FoldPlan,
    Folds,
    fold_count,
    group_mask,
    person_mask,
    plan_folds,
    shadow_count,
)
from karen_learner.records import (
    CurationWrite,
    CycleMode,
    Example,
    LabelledText,
    ModelVersion,
    Promotion,
    utc_now,
)
from karen_learner.settings import Settings
from karen_learner.text_identity import group_key
from tests.curation.specimens import turn

TENANT = "acme"
COUNTS = (2, 3, 5, 10)


def example(name: str, *, group: str | None = None, gold: bool = False, **values: Any) -> Example:
    known: dict[str, Any] = {
        "text": f"text of {name}", "intent": "billing", "example_id": name,
        "source": "seed" if gold else "correction", "quality": 0.9, "key": f"key of {name}",
        "group": group or f"group of {name}", "stratum": "billing",
    }  # fmt: skip
    return Example(**known | values)


def bits(mask: int) -> set[int]:
    return {number for number in range(mask.bit_length()) if mask >> number & 1}


def named(folds: Folds, home: int, prefix: str = "") -> str:
    """A name with this home fold."""
    return next(name for n in range(10_000) if folds.home(name := f"{prefix}{n}") == home)


def rule(
    count: int = 5, people: Mapping[str, tuple[str, ...]] | None = None, gold: Iterable[str] = ()
) -> Folds:
    return Folds(count=count, people=people or {}, gold_groups=frozenset(gold))


# Rules ----------------------------------------------------------------------------------------


def test_homes_are_stable_and_spread_over_the_folds() -> None:
    folds = rule()
    assert [folds.home(name) for name in ("ann", "bob", "cid", "", "\ud800")] == [
        rule().home(name) for name in ("ann", "bob", "cid", "", "\ud800")
    ]
    homes = Counter(folds.home(f"name {number}") for number in range(2000))
    assert set(homes) == set(range(5))
    assert min(homes.values()) > 300


def test_gold_is_held_out_of_the_home_fold_of_its_group() -> None:
    folds = rule()
    for home in range(5):
        group = named(folds, home)
        assert bits(folds.held_out(example("e", group=group, gold=True))) == {home}


def test_reviewed_gold_is_held_out_by_its_person_as_well() -> None:
    plain = rule()
    group, ann = named(plain, 1), named(plain, 3)
    folds = rule(people={"e": (ann,)})
    assert bits(folds.held_out(example("e", group=group, gold=True))) == {1, 3}


def test_feedback_of_one_or_two_people_is_held_out_by_their_homes() -> None:
    plain = rule()
    group, ann, bob = named(plain, 0), named(plain, 2), named(plain, 4)
    folds = rule(people={"one": (ann,), "two": (ann, bob)})
    assert bits(folds.held_out(example("one", group=group))) == {2}
    assert bits(folds.held_out(example("two", group=group))) == {2, 4}


def test_feedback_of_more_people_or_of_nobody_is_held_out_by_its_group() -> None:
    plain = rule()
    group = named(plain, 0)
    people = tuple(named(plain, home) for home in (1, 2, 3))
    folds = rule(people={"three": people})
    assert bits(folds.held_out(example("three", group=group))) == {0}
    assert bits(folds.held_out(example("nobody", group=group))) == {0}


def test_feedback_that_people_label_alike_is_held_out_and_judged_by_its_group_alone() -> None:
    group = named(rule(), 3)
    alike = example("e", group=group, users=2)
    folds = rule(people={"e": ("ann", "bob")})
    assert bits(folds.held_out(alike)) == {3}
    assert set(folds.masks([alike])) == {group_mask(group)}
    assert folds.judge(alike, {person_mask("ann"): 31, person_mask("bob"): 31}, 5) == 3
    assert folds.judge(alike, {group_mask(group): 31}, 5) is None


@pytest.mark.parametrize("people", [("ann",), ("ann", "bob", "cid"), ("turn:1", "turn:2"), ("ann", "turn:1")])
def test_one_known_person_or_a_disagreement_corroborates_nothing(people: tuple[str, ...]) -> None:
    folds = rule(people={"e": people})
    assert person_mask(people[0]) in folds.masks([example("e", users=2 if len(people) > 1 else 1)])


def test_a_near_duplicate_of_gold_is_held_out_with_the_gold() -> None:
    plain = rule()
    group, ann = named(plain, 1), named(plain, 3)
    folds = rule(people={"e": (ann,)}, gold=[group])
    assert bits(folds.held_out(example("e", group=group))) == {1, 3}


def test_masks_name_the_shadows_that_learn_from_a_group_or_a_person() -> None:
    plain = rule()
    group, ann, other = named(plain, 1), named(plain, 3), named(plain, 4)
    folds = rule(people={"a": (ann,), "b": (ann,)})
    learned = [example("a", group=group), example("gold", group=other, gold=True)]
    assert {name: bits(mask) for name, mask in folds.masks(learned).items()} == {
        group_mask(group): {0, 1, 2, 4},
        person_mask(ann): {0, 1, 2, 4},
        group_mask(other): {0, 1, 2, 3},
    }
    assert folds.masks([]) == {}


def test_the_home_fold_judges_first_and_another_free_one_otherwise() -> None:
    plain = rule()
    group = named(plain, 3)
    gold = example("e", group=group, gold=True)
    assert plain.judge(gold, {}, 5) == 3
    assert plain.judge(gold, plain.masks([gold]), 5) == 3
    assert plain.judge(gold, {group_mask(group): 0b01101}, 5) == 1
    assert plain.judge(gold, {group_mask(group): 0b11111}, 5) is None


def test_each_person_of_a_text_can_exclude_a_shadow() -> None:
    plain = rule()
    people = ("ann", "bob", "cid")
    folds = rule(people={"e": people})
    one = example("e", group=named(plain, 0))
    masks = {person_mask("ann"): 0b00111, person_mask("cid"): 0b01000}
    assert folds.judge(one, masks, folds.count) == 4
    assert folds.judge(one, masks | {person_mask("bob"): 0b10000}, folds.count) is None


def test_masks_have_no_names_of_people() -> None:
    assert "ann" not in person_mask("ann@example.com")
    assert person_mask("ann") != person_mask("bob")
    assert person_mask("\ud800").startswith("person:")
    assert group_mask("g") != person_mask("g")


# Any history ------------------------------------------------------------------------------------


@dataclass
class Shadow:
    """A shadow with the list of all that it has learned."""

    groups: set[str] = field(default_factory=set)
    people: set[str] = field(default_factory=set)

    def learn(self, group: str, people: Iterable[str]) -> None:
        self.groups.add(group)
        self.people.update(people)

    def copied(self) -> Shadow:
        return Shadow(set(self.groups), set(self.people))


@dataclass(frozen=True)
class Drawn:
    """A random example: the cycle in which it appears, and the cycle in which each person says it."""

    group: int
    gold: bool
    cycle: int
    said: tuple[tuple[int, int], ...]

    def people(self, cycle: int) -> tuple[str, ...]:
        return tuple(dict.fromkeys(f"person {who}" for who, when in self.said if when <= cycle))


drawn_examples = st.lists(
    st.builds(
        Drawn,
        group=st.integers(0, 5),
        gold=st.booleans(),
        cycle=st.integers(0, 3),
        said=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=4).map(tuple),
    ),
    min_size=1,
    max_size=14,
)
drawn_cycles = st.lists(
    st.tuples(st.sampled_from(["full", "incremental"]), st.booleans(), st.integers(0, 2**14 - 1)),
    min_size=4,
    max_size=4,
)


@given(count=st.sampled_from(COUNTS), drawn=drawn_examples, cycles=drawn_cycles)
def test_no_shadow_judges_a_group_or_a_person_that_it_learned_from(
    count: int, drawn: list[Drawn], cycles: list[tuple[str, bool, int]]
) -> None:
    """Candidates may be rejected; replay is a random part of the learned examples; people join later."""
    champion, stored, learned = [Shadow() for _ in range(count)], dict[str, int](), set[int]()
    for cycle, (mode, is_deployed, replay) in enumerate(cycles):
        present = {at: one for at, one in enumerate(drawn) if one.cycle <= cycle}
        examples = {
            at: example(str(at), group=f"group {one.group}", gold=one.gold) for at, one in present.items()
        }
        people = {str(at): said for at, one in present.items() if (said := one.people(cycle))}
        gold = {one.group for one in examples.values() if one.is_gold}
        folds = Folds(count=count, people=people, gold_groups=gold)
        trained = {at for at in present if mode == "full" or at not in learned or replay >> at & 1}

        candidate = [Shadow() if mode == "full" else shadow.copied() for shadow in champion]
        for at in trained:
            for number, shadow in enumerate(candidate):
                if not folds.held_out(examples[at]) >> number & 1:
                    shadow.learn(examples[at].group, people.get(str(at), ()))
        added = folds.masks(examples[at] for at in trained)
        masks = {name: stored.get(name, 0) | added.get(name, 0) for name in stored.keys() | added.keys()}
        for one in examples.values():
            judge = folds.judge(one, masks, folds.count)
            if judge is not None:
                for shadow in (candidate[judge], champion[judge]):
                    assert one.group not in shadow.groups
                    assert not shadow.people & {*people.get(one.example_id, ())}
        if is_deployed:
            champion, learned = candidate, learned | trained
            stored = added if mode == "full" else masks


@given(count=st.sampled_from(COUNTS), drawn=drawn_examples)
def test_every_example_is_learned_by_a_shadow_and_lone_gold_is_judged(count: int, drawn: list[Drawn]) -> None:
    people = {str(at): one.people(9) for at, one in enumerate(drawn) if one.people(9)}
    examples = [example(str(at), group=f"group {one.group}", gold=one.gold) for at, one in enumerate(drawn)]
    folds = Folds(count=count, people=people, gold_groups={one.group for one in examples if one.is_gold})
    masks = folds.masks(examples)
    for one in examples:
        held_out = folds.held_out(one)
        assert 1 <= held_out.bit_count() <= 3
        assert held_out <= folds.every
        alone = not people.get(one.example_id) and all(
            other is one or other.group != one.group for other in examples
        )
        if one.is_gold and alone:
            assert folds.judge(one, masks, folds.count) == folds.home(one.group)


# Numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "folds"), [(0.2, 5), (0.5, 2), (0.33, 3), (0.25, 4), (0.1, 10), (0.15, 7), (0.28, 4)]
)
def test_the_share_of_validation_is_one_by_the_number_of_folds(share: float, folds: int) -> None:
    assert fold_count(share) == folds


@pytest.mark.parametrize(
    ("gold", "history", "shadows"),
    [
        (0, 0, 5),
        (10, 40, 5),
        (3000, 3000, 5),
        (4000, 4000, 4),
        (6000, 6000, 3),
        (7500, 7500, 2),
        (15_000, 20_000, 1),
        (15_001, 20_000, 1),
        (5 * ENOUGH_JUDGED, LONG_HISTORY, 1),
        (5 * ENOUGH_JUDGED, LONG_HISTORY - 1, 5),
        (ENOUGH_JUDGED, LONG_HISTORY, 5),
        (0, LONG_HISTORY, 5),
    ],
)
def test_the_fewest_shadows_judge_the_wanted_texts(gold: int, history: int, shadows: int) -> None:
    assert shadow_count(5, gold=gold, history=history, wanted=3000) == shadows


# Plans on a store -----------------------------------------------------------------------------

NAMES = (
    "apple",
    "bread",
    "cheese",
    "dates",
    "eggs",
    "figs",
    "grapes",
    "honey",
    "ice",
    "juice",
    "kale",
    "lemon",
)


async def add_gold(curator: Curator, *texts: str) -> None:
    await curator.add_gold(TENANT, [LabelledText(text=text, intent="billing") for text in texts])


async def say(store: MemoryStore, curator: Curator, text: str, *people: str) -> None:
    """The same correction of each person."""
    for person in people:
        await store.add_turn(
            turn(text, feedback={"corrected_intent": "billing"}, user_id=person, turn_id=f"{person}: {text}")
        )
    await curator.curate(TENANT)


async def selected(curator: Curator, mode: CycleMode = "full") -> Curated:
    return await curator.select(TENANT, mode=mode)


GENERATION = "the first"


async def deploy(store: MemoryStore, plan: FoldPlan, learned: Sequence[Example]) -> None:
    champion = await store.champion(TENANT)
    number = await store.next_version_number(TENANT)
    version = ModelVersion(
        tenant_id=TENANT, version=f"v{number}", path=Path(f"models/v{number}"),
        digest="0", parent=champion and champion.version, cycle_id=None, created_at=utc_now(),
    )  # fmt: skip
    promotion = Promotion(
        version=version,
        expected=champion and champion.version,
        learned=learned,
        masks=plan.masks,
        generation=GENERATION,
    )
    assert await store.promote(TENANT, promotion, token=None)


def shadows_by_text(plan: FoldPlan) -> dict[str, int]:
    return {one.text: shadow for one, shadow in zip(plan.judged.examples, plan.judged.shadows, strict=True)}


async def test_the_plan_of_a_first_model_judges_all_gold(
    store: MemoryStore, curator: Curator, settings: Settings
) -> None:
    await add_gold(curator, *NAMES)
    curated = await selected(curator)
    plan = await plan_folds(store, TENANT, curated, settings=settings)
    assert (plan.folds, plan.shadows) == (5, 5)
    assert plan.held_out.keys() == {one.example_id for one in curated.new}
    assert shadows_by_text(plan) == {one.text: rule().home(one.group) for one in curated.new}
    assert plan.masks == {
        group_mask(one.group): 0b11111 & ~(1 << rule().home(one.group)) for one in curated.new
    }
    assert plan.judged.people == ((),) * len(NAMES)


async def test_the_number_of_folds_is_that_of_the_settings(
    store: MemoryStore, curator: Curator, settings: Settings
) -> None:
    settings.training.validation_split = 0.5
    await add_gold(curator, *NAMES)
    plan = await plan_folds(store, TENANT, await selected(curator), settings=settings)
    assert (plan.folds, plan.shadows) == (2, 2)
    assert set(plan.judged.shadows) == {0, 1}
    assert all(mask < 4 for mask in (*plan.masks.values(), *plan.held_out.values()))


async def test_a_near_duplicate_of_gold_never_trains_the_shadow_that_judges_the_gold(
    store: MemoryStore, curator: Curator, settings: Settings
) -> None:
    await add_gold(curator, *NAMES)
    for number, name in enumerate(NAMES):
        await say(store, curator, f"my {name}", f"user {number}")
    curated = await selected(curator)
    plan = await plan_folds(store, TENANT, curated, settings=settings)
    by_group: dict[str, list[Example]] = {}
    for one in curated.new:
        by_group.setdefault(one.group, []).append(one)
    judged = {
        one.example_id: shadow for one, shadow in zip(plan.judged.examples, plan.judged.shadows, strict=True)
    }
    assert all(len(several) == 2 for several in by_group.values())
    for several in by_group.values():
        for one in several:
            for shadow in [judged[one.example_id]] if one.example_id in judged else []:
                assert all(plan.held_out[other.example_id] >> shadow & 1 for other in several)
    gold = [one for one in curated.new if one.is_gold]
    assert {one.example_id for one in gold} <= judged.keys()


async def test_texts_of_the_same_person_are_judged_by_the_shadow_of_that_person(
    store: MemoryStore, curator: Curator, settings: Settings
) -> None:
    await add_gold(curator, *NAMES[:4])
    for text in ("pay the rent", "rent for the flat", "how much is a house"):
        await say(store, curator, text, "ann")
    await say(store, curator, "cats and dogs", "bob", "cid", "dan", "eve")
    plan = await plan_folds(store, TENANT, await selected(curator), settings=settings)
    found = shadows_by_text(plan)
    of_ann = {found[text] for text in ("pay the rent", "rent for the flat", "how much is a house")}
    assert of_ann == {rule().home("ann")}
    people = dict(zip((one.text for one in plan.judged.examples), plan.judged.people, strict=True))
    assert people["pay the rent"] == ("ann",)
    assert people["cats and dogs"] == ("bob", "cid", "dan", "eve")
    by_id = {one.text: plan.held_out[one.example_id] for one in plan.judged.examples}
    assert bits(by_id["cats and dogs"]) == {found["cats and dogs"]}  # held out by its group


async def test_a_person_of_many_texts_with_others_may_have_no_judge(
    store: MemoryStore, curator: Curator, settings: Settings
) -> None:
    """Texts of many people train the shadow of each person, too. Their own texts are still learned."""
    await add_gold(curator, *NAMES[:4])
    for name in ("pay the rent", "sell a house", "cats and dogs", "rain in may", "red shoes", "big trees"):
        await say(store, curator, name, "ann", "bob", "cid")
    await say(store, curator, "only mine", "ann")
    curated = await selected(curator)
    plan = await plan_folds(store, TENANT, curated, settings=settings)
    mask = plan.masks[person_mask("ann")]
    found = shadows_by_text(plan)
    assert ("only mine" in found) == (mask != 0b11111)
    assert {one.example_id for one in curated.new} == plan.held_out.keys()


async def test_masks_of_earlier_cycles_exclude_shadows(
    store: MemoryStore, curator: Curator, settings: Settings
) -> None:
    await add_gold(curator, *NAMES)
    await say(store, curator, "pay the rent", "ann")
    first = await selected(curator)
    plan = await plan_folds(store, TENANT, first, settings=settings)
    masks = {**plan.masks, person_mask("bob"): 0b11111}
    await deploy(store, replace(plan, masks=masks), first.new)
    await say(store, curator, "cats and dogs", "ann")  # the group is new, the person is not
    await say(store, curator, "rain in may", "bob")
    await say(store, curator, "red shoes", "cid")
    for mode in ("incremental", "full"):
        curated = await selected(curator, mode)
        later = await plan_folds(
            store,
            TENANT,
            curated,
            settings=settings,
            former_shadows=5,
            generation=GENERATION,
            continues=mode == "incremental",
        )
        found = shadows_by_text(later)
        assert found["cats and dogs"] == found["pay the rent"] == rule().home("ann")
        assert found["red shoes"] == rule().home("cid")
        assert "rain in may" not in found
        assert {one.text for one in later.judged.examples if one.is_gold} == {*NAMES}
    unknown = await plan_folds(store, TENANT, curated, settings=settings)
    assert shadows_by_text(unknown)["rain in may"] == rule().home("bob")


@pytest.mark.parametrize("is_same_home", [True, False])
async def test_gold_that_duplicates_learned_feedback_is_not_judged_by_its_learners(
    is_same_home: bool, store: MemoryStore, curator: Curator, settings: Settings
) -> None:
    """The feedback was held out by its person alone. Its near-duplicate becomes gold later."""
    home = rule().home(group_key("old car"))
    person = named(rule(), home if is_same_home else (home + 1) % 5, prefix="user ")
    await add_gold(curator, *NAMES[:3])
    await say(store, curator, "my old car", person)
    first = await selected(curator)
    plan = await plan_folds(store, TENANT, first, settings=settings)
    await deploy(store, plan, first.new)
    await add_gold(curator, "old car")
    second = await selected(curator, "incremental")
    (gold,) = second.new
    (feedback,) = [one for one in second.replay if not one.is_gold]
    assert gold.group == feedback.group
    later = await plan_folds(
        store, TENANT, second, settings=settings, former_shadows=5, generation=GENERATION, continues=True
    )
    assert bits(plan.held_out[feedback.example_id]) == {rule().home(person)}
    assert bits(later.held_out[gold.example_id]) == {home}
    # With different homes no shadow lacks both. The text is learned, and judges nothing.
    assert shadows_by_text(later).get("old car") == (home if is_same_home else None)


async def test_only_shadows_that_both_models_have_judge(
    store: MemoryStore, curator: Curator, settings: Settings
) -> None:
    await add_gold(curator, *NAMES)
    first = await selected(curator)
    await deploy(store, await plan_folds(store, TENANT, first, settings=settings), first.new)
    full = await selected(curator)
    refitted = await plan_folds(
        store, TENANT, full, settings=settings, former_shadows=2, generation=GENERATION
    )
    assert refitted.shadows == 5
    assert set(refitted.judged.shadows) == {0, 1}
    continued = await plan_folds(
        store, TENANT, await selected(curator, "incremental"), settings=settings,
        former_shadows=2, continues=True,
    )  # fmt: skip
    assert continued.shadows == 2
    assert set(continued.judged.shadows) == {0, 1}


async def test_judged_texts_are_capped(store: MemoryStore, curator: Curator, settings: Settings) -> None:
    settings.gate.judged_texts = 3
    await add_gold(curator, *NAMES)
    for number in range(6):
        await say(store, curator, f"{'abcdef'[number]}x question", f"user {number}")
    curated = await selected(curator)
    plan = await plan_folds(store, TENANT, curated, settings=settings)
    assert plan.shadows == 2  # 12 gold texts: two of five shadows judge three
    gold = [one for one in plan.judged.examples if one.is_gold]
    feedback = [one for one in plan.judged.examples if not one.is_gold]
    eligible = [one for one in curated.new if one.is_gold and rule().home(one.group) < plan.shadows]
    expected = sorted(eligible, key=lambda one: one.draw)[:3]
    assert [one.text for one in gold] == [one.text for one in expected]
    numbers = [one.seq or 0 for one in feedback]
    assert numbers == sorted(numbers, reverse=True)
    assert len(feedback) <= 3
    again = await plan_folds(store, TENANT, curated, settings=settings)
    assert again.judged == plan.judged


async def test_learned_texts_outside_the_replay_pool_judge(
    store: MemoryStore, curator: Curator, settings: Settings
) -> None:
    settings.learning.replay_examples = 0
    await add_gold(curator, *NAMES)
    for number in range(6):
        await say(store, curator, f"{'abcdef'[number]}x question", f"user {number}")
    first = await selected(curator)
    plan = await plan_folds(store, TENANT, first, settings=settings)
    await deploy(store, plan, first.new)
    await say(store, curator, "cats and dogs", "zoe")
    second = await selected(curator, "incremental")
    assert second.replay == ()
    later = await plan_folds(
        store, TENANT, second, settings=settings, former_shadows=5, generation=GENERATION, continues=True
    )
    assert later.held_out.keys() == {one.example_id for one in second.new}
    assert shadows_by_text(later) == shadows_by_text(plan) | {"cats and dogs": rule().home("zoe")}


async def test_a_long_history_has_one_shadow(
    store: MemoryStore, curator: Curator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("karen_learner.curation.folds.LONG_HISTORY", 12)
    monkeypatch.setattr("karen_learner.curation.folds.ENOUGH_JUDGED", 2)
    await add_gold(curator, *NAMES)
    plan = await plan_folds(store, TENANT, await selected(curator), settings=settings)
    assert (plan.folds, plan.shadows) == (5, 1)
    assert set(plan.judged.shadows) == {0}


async def test_examples_in_conflict_do_not_judge(
    store: MemoryStore, curator: Curator, settings: Settings
) -> None:
    await add_gold(curator, *NAMES)
    disputed = example("odd", state="conflict")
    await store.save_curation(TENANT, CurationWrite(upserts=[disputed]))
    plan = await plan_folds(store, TENANT, await selected(curator), settings=settings)
    assert {one.text for one in plan.judged.examples} == {*NAMES}
