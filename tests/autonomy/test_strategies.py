"""Strategies: choices, borrowed evidence, limits, rules for errors, and rows in the store."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.autonomy.strategies import StrategyKnowledge
from karen_learner.autonomy.strategies.thompson import Posterior, choice_probabilities, posterior
from karen_learner.errors import InvalidInput, SettingsError
from karen_learner.memory import open_store
from karen_learner.records.strategies import StrategyTally, merged
from karen_learner.settings import load_settings
from tests.autonomy.conftest import FastClock

DAY = 86_400.0
MakeKnowledge = Callable[..., StrategyKnowledge]


@pytest.fixture
def make_knowledge(clock: FastClock) -> MakeKnowledge:
    def make(*, store: Any = None, tenant: str = "acme", **changes: Any) -> StrategyKnowledge:
        settings = load_settings(overrides={"strategies": changes}, environment={}).strategies
        return StrategyKnowledge(settings, tenant_id=tenant, store=store, clock=clock, seed=0)

    return make


def attempt(knowledge: StrategyKnowledge, strategy: str, domain: str, *, right: int, wrong: int = 0) -> None:
    for success in [True] * right + [False] * wrong:
        knowledge.record(success, strategy, domain)


def live(
    knowledge: StrategyKnowledge, clock: FastClock, rates: dict[str, float], *, steps: int
) -> Counter[str]:
    """Follow the recommendations in a world with these success rates."""
    rng, chosen = random.Random(0), Counter[str]()
    for _ in range(steps):
        choice = knowledge.recommend("answering")
        chosen[choice.strategy] += 1
        success = rng.random() < rates[choice.strategy]
        knowledge.record(success, choice.strategy, "answering", choice_id=choice.choice_id)
        clock.move(1.0)
    return chosen


# Choices ----------------------------------------------------------------------------------------


def test_without_evidence_the_safe_default_is_best(make_knowledge: MakeKnowledge) -> None:
    knowledge = make_knowledge(domains={"answering": "template, llm, spacy"})
    first = knowledge.chooser.estimates("answering")[0]
    assert (first.strategy, first.is_best, first.is_default) == ("template", True, True)
    assert make_knowledge().recommend("anything").strategy == "default"


def test_it_finds_the_best_strategy_and_follows_a_change(
    make_knowledge: MakeKnowledge, clock: FastClock
) -> None:
    knowledge = make_knowledge(domains={"answering": "template, llm, spacy"}, half_life_s=200.0)
    before = live(knowledge, clock, {"template": 0.3, "llm": 0.8, "spacy": 0.5}, steps=400)
    after = live(knowledge, clock, {"template": 0.3, "llm": 0.2, "spacy": 0.7}, steps=600)
    assert before["llm"] > 250
    assert after["spacy"] > 350


def test_exploration_is_capped_and_its_propensity_is_that_of_the_draw(make_knowledge: MakeKnowledge) -> None:
    knowledge = make_knowledge(domains={"answering": "a, b, c, d"}, max_exploration=0.1)
    choices = [knowledge.recommend("answering") for _ in range(2_000)]
    explored = [one for one in choices if one.is_exploration]
    assert 0.07 < len(explored) / len(choices) < 0.13
    best = next(one for one in choices if not one.is_exploration)
    assert best.propensity == pytest.approx(0.9)
    assert sum(1.0 / one.propensity for one in explored) / 3 == pytest.approx(len(choices), rel=0.2)


def test_a_domain_with_few_attempts_borrows_from_the_others(make_knowledge: MakeKnowledge) -> None:
    knowledge = make_knowledge(domains={"new": "template, llm, spacy"})
    attempt(knowledge, "llm", "billing", right=90, wrong=10)
    attempt(knowledge, "spacy", "travel", right=5, wrong=95)
    means = {one.strategy: one.expected for one in knowledge.chooser.estimates("new")}
    assert means["llm"] > 0.8
    assert means["spacy"] < 0.15
    attempt(knowledge, "llm", "new", right=0, wrong=40)
    own = {one.strategy: one.expected for one in knowledge.chooser.estimates("new")}
    assert own["llm"] < 0.3


def test_all_strategies_decay_with_time(make_knowledge: MakeKnowledge, clock: FastClock) -> None:
    knowledge = make_knowledge()
    attempt(knowledge, "llm", "billing", right=8)
    attempt(knowledge, "spacy", "billing", right=0, wrong=4)
    clock.move(DAY)
    counts = {one.strategy: (one.successes, one.failures) for one in knowledge.chooser.estimates("billing")}
    assert counts == {"llm": (4.0, 0.0), "spacy": (0.0, 2.0)}


def test_a_late_result_counts_at_the_time_of_its_choice(
    make_knowledge: MakeKnowledge, clock: FastClock
) -> None:
    knowledge = make_knowledge()
    choice = knowledge.recommend("billing")
    clock.move(DAY)
    propensity = knowledge.record(True, choice.strategy, "billing", choice_id=choice.choice_id)
    assert propensity == choice.propensity
    assert knowledge.chooser.estimates("billing")[0].successes == 0.5
    assert knowledge.record(True, choice.strategy, "billing", choice_id=choice.choice_id) is None
    assert knowledge.chooser.estimates("billing")[0].successes == 1.5


def test_a_result_of_another_strategy_is_refused(make_knowledge: MakeKnowledge) -> None:
    knowledge = make_knowledge()
    choice = knowledge.recommend("billing")
    with pytest.raises(InvalidInput, match="is 'default' in 'billing', not 'llm' in 'billing'"):
        knowledge.record(True, "llm", "billing", choice_id=choice.choice_id)
    knowledge.record(True, choice.strategy, "billing", choice_id=choice.choice_id)


def test_the_number_of_rows_is_bounded(make_knowledge: MakeKnowledge) -> None:
    knowledge = make_knowledge()
    for number in range(2_100):
        knowledge.record(True, "llm", f"domain {number}")
    assert len(knowledge.chooser.domains()) == 2_001
    assert "(other)" in knowledge.chooser.domains()


@given(
    rates=st.dictionaries(
        st.sampled_from("abcdef"),
        st.tuples(st.floats(0.01, 1e4), st.floats(0.01, 1e4)),
        min_size=1,
    ),
    cap=st.floats(0.0, 1.0),
)
def test_probabilities_sum_to_one_and_respect_the_cap(
    rates: dict[str, tuple[float, float]], cap: float
) -> None:
    best = min(rates)
    shares = choice_probabilities(
        {name: Posterior(*one) for name, one in rates.items()},
        best=best,
        max_exploration=cap,
        rng=np.random.default_rng(0),
    )
    assert math.isclose(sum(shares.values()), 1.0)
    assert all(0.0 <= one <= 1.0 for one in shares.values())
    assert sum(one for name, one in shares.items() if name != best) <= cap + 1e-9


def test_borrowed_evidence_has_a_bounded_weight() -> None:
    found = posterior((0.0, 0.0), (900.0, 100.0), prior_mean=0.2, prior=4.0, borrowed=10.0)
    assert sum(found) == pytest.approx(10.0)
    assert found.mean == pytest.approx(0.9, abs=0.01)


# Switches ---------------------------------------------------------------------------------------


def test_a_frozen_strategy_is_chosen_alone_and_attempts_still_count(make_knowledge: MakeKnowledge) -> None:
    knowledge = make_knowledge(domains={"billing": "template, llm"})
    attempt(knowledge, "llm", "billing", right=50)
    knowledge.freeze("template")
    choice = knowledge.recommend("billing")
    assert (choice.strategy, choice.propensity, choice.frozen) == ("template", 1.0, True)
    knowledge.record(True, "template", "billing")
    knowledge.freeze("llm", "billing")
    assert knowledge.recommend("billing").strategy == "llm"
    knowledge.unfreeze("billing")
    knowledge.unfreeze()
    assert not knowledge.recommend("billing").frozen
    assert {one.strategy: one.successes for one in knowledge.chooser.estimates("billing")}["template"] == 1.0


def test_an_unknown_strategy_cannot_be_frozen(make_knowledge: MakeKnowledge) -> None:
    knowledge = make_knowledge(domains={"billing": "template, llm"})
    for domain in (None, "billing"):
        with pytest.raises(InvalidInput, match="unknown strategy 'templat': known are llm, template"):
            knowledge.freeze("templat", domain)


def test_the_setting_freezes_the_safe_defaults(make_knowledge: MakeKnowledge) -> None:
    knowledge = make_knowledge(domains={"billing": "template, llm"}, frozen=True)
    attempt(knowledge, "llm", "billing", right=50)
    assert {knowledge.recommend("billing").strategy for _ in range(20)} == {"template"}


def test_an_excluded_strategy_returns_after_its_time(make_knowledge: MakeKnowledge, clock: FastClock) -> None:
    knowledge = make_knowledge(domains={"billing": "template, llm"})
    assert knowledge.bar_best("billing", until=clock() + timedelta(hours=1)) == "llm"
    assert {knowledge.recommend("billing").strategy for _ in range(20)} == {"llm"}
    assert {one.strategy: one.barred for one in knowledge.chooser.estimates("billing")} == {
        "llm": False,
        "template": True,
    }
    clock.move(3_601.0)
    assert knowledge.chooser.best("billing") == "template"
    assert make_knowledge().bar_best("billing", until=clock() + timedelta(hours=1)) is None


# Limits -----------------------------------------------------------------------------------------


def test_limits_follow_the_measured_distributions(make_knowledge: MakeKnowledge, clock: FastClock) -> None:
    knowledge, rng = make_knowledge(), random.Random(1)
    assert knowledge.recommend("billing").limits.timeout_s is None
    for _ in range(400):
        knowledge.record(True, "llm", "billing", duration_ms=rng.uniform(1_000.0, 2_000.0))
        clock.move(0.1)
    limits = knowledge.limits.limits("billing", "llm")
    assert limits.timeout_s == pytest.approx(3.0, rel=0.05)
    assert limits.concurrency == pytest.approx(15 + 2 * math.sqrt(15), abs=2)
    assert limits.pool_size == limits.concurrency
    for _ in range(100):
        knowledge.record(False, "llm", "billing", "overload")
        clock.move(0.1)
    assert (knowledge.limits.limits("billing", "llm").concurrency or 99) < (limits.concurrency or 0)
    for _ in range(20):
        knowledge.record(False, "llm", "billing", "timeout")
    assert knowledge.limits.limits("billing", "llm").timeout_s == 120.0


@pytest.mark.parametrize(("success_rate", "retries"), [(0.98, 1), (0.5, 5), (0.02, 0)])
def test_retries_follow_the_success_of_repetitions(
    make_knowledge: MakeKnowledge, success_rate: float, retries: int
) -> None:
    knowledge, rng = make_knowledge(), random.Random(2)
    for number in range(300):
        knowledge.record(False, "llm", "billing", "busy", task_id=str(number))
        knowledge.record(rng.random() < success_rate, "llm", "billing", task_id=str(number))
    for _ in range(30):
        knowledge.record(True, "llm", "billing", duration_ms=5.0)
    assert knowledge.limits.limits("billing", "llm").retries == retries


def test_contradicting_bounds_are_refused(make_knowledge: MakeKnowledge) -> None:
    with pytest.raises(SettingsError, match="timeout_min_s 10 is above timeout_max_s 5"):
        make_knowledge(timeout_min_s=10.0, timeout_max_s=5.0)


# Rules for errors -------------------------------------------------------------------------------


def follow_up(
    knowledge: StrategyKnowledge, clock: FastClock, strategy: str, wait_s: float, *, right: int, wrong: int
) -> None:
    for number, success in enumerate([True] * right + [False] * wrong):
        task = f"{strategy} {wait_s} {number}"
        knowledge.record(False, "llm", "billing", "timeout", task_id=task)
        clock.move(wait_s)
        knowledge.record(success, strategy, "billing", task_id=task)


def test_a_rule_has_the_most_successful_reaction_with_its_evidence(
    make_knowledge: MakeKnowledge, clock: FastClock
) -> None:
    knowledge = make_knowledge()
    assert not knowledge.rules.rule("timeout", "billing").learned
    follow_up(knowledge, clock, "llm", 0.0, right=2, wrong=18)
    follow_up(knowledge, clock, "llm", 5.0, right=6, wrong=14)
    follow_up(knowledge, clock, "spacy", 0.0, right=18, wrong=2)
    rule = knowledge.rules.rule("timeout", "billing")
    assert (rule.action, rule.learned, rule.domain) == ("switch", True, "billing")
    assert rule.text == (
        "timeout in billing: switch (60 errors; success after retry 2 of 20, success after back off 6 of 20, "
        "success after switch 18 of 20)"
    )
    assert knowledge.recommend("billing").rules == (rule,)
    chosen = Counter(knowledge.rules.choose("timeout", "billing") for _ in range(300))
    assert chosen["switch"] >= 200


def test_another_domain_borrows_the_rule(make_knowledge: MakeKnowledge, clock: FastClock) -> None:
    knowledge = make_knowledge()
    follow_up(knowledge, clock, "spacy", 0.0, right=18, wrong=2)
    rule = knowledge.rules.rule("timeout", "travel")
    assert (rule.action, rule.domain) == ("switch", None)
    assert rule.text.startswith("timeout in any domain: switch")


def test_it_gives_up_if_nothing_helps(make_knowledge: MakeKnowledge, clock: FastClock) -> None:
    knowledge = make_knowledge()
    follow_up(knowledge, clock, "llm", 0.0, right=0, wrong=60)
    assert knowledge.rules.rule("timeout", "billing").action == "give_up"
    assert knowledge.rules.choose("timeout", "billing") == "give_up"


def test_a_late_attempt_is_no_reaction(make_knowledge: MakeKnowledge, clock: FastClock) -> None:
    knowledge = make_knowledge()
    follow_up(knowledge, clock, "llm", 4_000.0, right=20, wrong=0)
    assert not knowledge.rules.rule("timeout", "billing").learned


# The store --------------------------------------------------------------------------------------


@given(
    first=st.dictionaries(st.sampled_from("xyz"), st.floats(0, 1e6)),
    second=st.dictionaries(st.sampled_from("xyz"), st.floats(0, 1e6)),
    seconds=st.floats(0.0, 1e6),
)
def test_merging_does_not_depend_on_the_order(
    first: dict[str, float], second: dict[str, float], seconds: float
) -> None:
    at = FastClock().now
    one = StrategyTally(kind="attempts", domain="d", name="s", counts=first, at=at)
    other = one.model_copy(update={"counts": second, "at": at + timedelta(seconds=seconds)})
    total = merged(one, other, DAY)
    assert total.at == merged(other, one, DAY).at == other.at
    assert total.counts == pytest.approx(dict(merged(other, one, DAY).counts))
    assert sum(total.counts.values()) <= sum(first.values()) + sum(second.values()) + 1e-6


async def test_processes_share_attempts_and_switches(
    make_knowledge: MakeKnowledge, clock: FastClock, tmp_path: Path
) -> None:
    async with open_store(tmp_path / "karen.db", load_settings().store) as store:
        one, other = make_knowledge(store=store), make_knowledge(store=store)
        attempt(one, "llm", "billing", right=3)
        attempt(other, "llm", "billing", right=2, wrong=1)
        for knowledge in (one, other, one):
            await knowledge.sync()
        for knowledge in (one, other):
            found = knowledge.chooser.estimates("billing")[0]
            assert (found.successes, found.failures) == (5.0, 1.0)
        one.freeze("llm")
        one.bar_best("billing", until=clock() + timedelta(hours=1))
        await one.sync()
        await other.sync()
        assert other.recommend("billing").frozen
        one.unfreeze()
        await one.sync()
        await other.sync()
        assert not other.recommend("billing").frozen
        assert await store.tenants_with_strategies() == ["acme"]
        stranger = make_knowledge(store=store, tenant="other")
        await stranger.sync()
        assert stranger.chooser.domains() == ()


async def test_the_state_survives_a_restart(
    make_knowledge: MakeKnowledge, clock: FastClock, tmp_path: Path
) -> None:
    place = tmp_path / "karen.db"
    async with open_store(place, load_settings().store) as store:
        knowledge = make_knowledge(store=store)
        attempt(knowledge, "llm", "a\0b 'c", right=8)
        await knowledge.sync()
    clock.move(DAY)
    async with open_store(place, load_settings().store) as store:
        again = make_knowledge(store=store)
        await again.sync()
        assert again.chooser.estimates("a\0b 'c")[0].successes == pytest.approx(4.0)


async def test_what_cannot_be_stored_is_stored_later(make_knowledge: MakeKnowledge, tmp_path: Path) -> None:
    place = tmp_path / "karen.db"
    async with open_store(place, load_settings().store):
        pass
    async with open_store(place, load_settings().store, read_only=True) as closed:
        knowledge = make_knowledge(store=closed)
        attempt(knowledge, "llm", "billing", right=3)
        await knowledge.sync()
    assert knowledge.chooser.estimates("billing")[0].successes == 3.0
    async with open_store(place, load_settings().store) as store:
        knowledge._store = store
        await knowledge.sync()
        await knowledge.sync()
        (row,) = (await store.strategies("acme")).tallies
        assert row.counts == {"success": 3.0}
