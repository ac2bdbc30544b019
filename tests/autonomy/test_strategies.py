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

from karen_learner.autonomy.strategies import StrategyBook
from karen_learner.autonomy.strategies.thompson import Posterior, choice_probabilities, posterior
from karen_learner.errors import InvalidInput, SettingsError
from karen_learner.memory import open_store
from karen_learner.records.strategies import StrategyTally, merged
from karen_learner.settings import load_settings
from tests.autonomy.conftest import FastClock

DAY = 86_400.0
MakeBook = Callable[..., StrategyBook]


@pytest.fixture
def make_book(clock: FastClock) -> MakeBook:
    def make(*, store: Any = None, tenant: str = "acme", **changes: Any) -> StrategyBook:
        settings = load_settings(overrides={"strategies": changes}, environment={}).strategies
        return StrategyBook(settings, tenant_id=tenant, store=store, clock=clock, seed=0)

    return make


def attempt(book: StrategyBook, strategy: str, domain: str, *, right: int, wrong: int = 0) -> None:
    for success in [True] * right + [False] * wrong:
        book.record(success, strategy, domain)


def live(book: StrategyBook, clock: FastClock, rates: dict[str, float], *, steps: int) -> Counter[str]:
    """Follow the recommendations in a world with these success rates."""
    rng, chosen = random.Random(0), Counter[str]()
    for _ in range(steps):
        choice = book.recommend("answering")
        chosen[choice.strategy] += 1
        success = rng.random() < rates[choice.strategy]
        book.record(success, choice.strategy, "answering", choice_id=choice.choice_id)
        clock.move(1.0)
    return chosen


# Choices ----------------------------------------------------------------------------------------


def test_without_evidence_the_safe_default_is_best(make_book: MakeBook) -> None:
    book = make_book(domains={"answering": "template, llm, spacy"})
    first = book.chooser.estimates("answering")[0]
    assert (first.strategy, first.is_best, first.is_default) == ("template", True, True)
    assert make_book().recommend("anything").strategy == "default"


def test_it_finds_the_best_strategy_and_follows_a_change(make_book: MakeBook, clock: FastClock) -> None:
    book = make_book(domains={"answering": "template, llm, spacy"}, half_life_s=200.0)
    before = live(book, clock, {"template": 0.3, "llm": 0.8, "spacy": 0.5}, steps=400)
    after = live(book, clock, {"template": 0.3, "llm": 0.2, "spacy": 0.7}, steps=600)
    assert before["llm"] > 250
    assert after["spacy"] > 350


def test_exploration_is_capped_and_its_propensity_is_that_of_the_draw(make_book: MakeBook) -> None:
    book = make_book(domains={"answering": "a, b, c, d"}, max_exploration=0.1)
    choices = [book.recommend("answering") for _ in range(2_000)]
    explored = [one for one in choices if one.is_exploration]
    assert 0.07 < len(explored) / len(choices) < 0.13
    best = next(one for one in choices if not one.is_exploration)
    assert best.propensity == pytest.approx(0.9)
    assert sum(1.0 / one.propensity for one in explored) / 3 == pytest.approx(len(choices), rel=0.2)


def test_a_domain_with_few_attempts_borrows_from_the_others(make_book: MakeBook) -> None:
    book = make_book(domains={"new": "template, llm, spacy"})
    attempt(book, "llm", "billing", right=90, wrong=10)
    attempt(book, "spacy", "travel", right=5, wrong=95)
    means = {one.strategy: one.expected for one in book.chooser.estimates("new")}
    assert means["llm"] > 0.8
    assert means["spacy"] < 0.15
    attempt(book, "llm", "new", right=0, wrong=40)
    own = {one.strategy: one.expected for one in book.chooser.estimates("new")}
    assert own["llm"] < 0.3


def test_all_strategies_decay_with_time(make_book: MakeBook, clock: FastClock) -> None:
    book = make_book()
    attempt(book, "llm", "billing", right=8)
    attempt(book, "spacy", "billing", right=0, wrong=4)
    clock.move(DAY)
    counts = {one.strategy: (one.successes, one.failures) for one in book.chooser.estimates("billing")}
    assert counts == {"llm": (4.0, 0.0), "spacy": (0.0, 2.0)}


def test_a_late_result_counts_at_the_time_of_its_choice(make_book: MakeBook, clock: FastClock) -> None:
    book = make_book()
    choice = book.recommend("billing")
    clock.move(DAY)
    propensity = book.record(True, choice.strategy, "billing", choice_id=choice.choice_id)
    assert propensity == choice.propensity
    assert book.chooser.estimates("billing")[0].successes == 0.5
    assert book.record(True, choice.strategy, "billing", choice_id=choice.choice_id) is None
    assert book.chooser.estimates("billing")[0].successes == 1.5


def test_a_result_of_another_strategy_is_refused(make_book: MakeBook) -> None:
    book = make_book()
    choice = book.recommend("billing")
    with pytest.raises(InvalidInput, match="is 'default' in 'billing', not 'llm' in 'billing'"):
        book.record(True, "llm", "billing", choice_id=choice.choice_id)
    book.record(True, choice.strategy, "billing", choice_id=choice.choice_id)


def test_the_number_of_rows_is_bounded(make_book: MakeBook) -> None:
    book = make_book()
    for number in range(2_100):
        book.record(True, "llm", f"domain {number}")
    assert len(book.chooser.domains()) == 2_001
    assert "(other)" in book.chooser.domains()


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


def test_a_frozen_strategy_is_chosen_alone_and_attempts_still_count(make_book: MakeBook) -> None:
    book = make_book(domains={"billing": "template, llm"})
    attempt(book, "llm", "billing", right=50)
    book.freeze("template")
    choice = book.recommend("billing")
    assert (choice.strategy, choice.propensity, choice.frozen) == ("template", 1.0, True)
    book.record(True, "template", "billing")
    book.freeze("llm", "billing")
    assert book.recommend("billing").strategy == "llm"
    book.unfreeze("billing")
    book.unfreeze()
    assert not book.recommend("billing").frozen
    assert {one.strategy: one.successes for one in book.chooser.estimates("billing")}["template"] == 1.0


def test_an_unknown_strategy_cannot_be_frozen(make_book: MakeBook) -> None:
    book = make_book(domains={"billing": "template, llm"})
    for domain in (None, "billing"):
        with pytest.raises(InvalidInput, match="unknown strategy 'templat': known are llm, template"):
            book.freeze("templat", domain)


def test_the_setting_freezes_the_safe_defaults(make_book: MakeBook) -> None:
    book = make_book(domains={"billing": "template, llm"}, frozen=True)
    attempt(book, "llm", "billing", right=50)
    assert {book.recommend("billing").strategy for _ in range(20)} == {"template"}


def test_an_excluded_strategy_returns_after_its_time(make_book: MakeBook, clock: FastClock) -> None:
    book = make_book(domains={"billing": "template, llm"})
    assert book.bar_best("billing", until=clock() + timedelta(hours=1)) == "llm"
    assert {book.recommend("billing").strategy for _ in range(20)} == {"llm"}
    assert {one.strategy: one.barred for one in book.chooser.estimates("billing")} == {
        "llm": False,
        "template": True,
    }
    clock.move(3_601.0)
    assert book.chooser.best("billing") == "template"
    assert make_book().bar_best("billing", until=clock() + timedelta(hours=1)) is None


# Limits -----------------------------------------------------------------------------------------


def test_limits_follow_the_measured_distributions(make_book: MakeBook, clock: FastClock) -> None:
    book, rng = make_book(), random.Random(1)
    assert book.recommend("billing").limits.timeout_s is None
    for _ in range(400):
        book.record(True, "llm", "billing", duration_ms=rng.uniform(1_000.0, 2_000.0))
        clock.move(0.1)
    limits = book.limits.limits("billing", "llm")
    assert limits.timeout_s == pytest.approx(3.0, rel=0.05)
    assert limits.concurrency == pytest.approx(15 + 2 * math.sqrt(15), abs=2)
    assert limits.pool_size == limits.concurrency
    for _ in range(100):
        book.record(False, "llm", "billing", "overload")
        clock.move(0.1)
    assert (book.limits.limits("billing", "llm").concurrency or 99) < (limits.concurrency or 0)
    for _ in range(20):
        book.record(False, "llm", "billing", "timeout")
    assert book.limits.limits("billing", "llm").timeout_s == 120.0


@pytest.mark.parametrize(("success_rate", "retries"), [(0.98, 1), (0.5, 5), (0.02, 0)])
def test_retries_follow_the_success_of_repetitions(
    make_book: MakeBook, success_rate: float, retries: int
) -> None:
    book, rng = make_book(), random.Random(2)
    for number in range(300):
        book.record(False, "llm", "billing", "busy", task_id=str(number))
        book.record(rng.random() < success_rate, "llm", "billing", task_id=str(number))
    for _ in range(30):
        book.record(True, "llm", "billing", duration_ms=5.0)
    assert book.limits.limits("billing", "llm").retries == retries


def test_contradicting_bounds_are_refused(make_book: MakeBook) -> None:
    with pytest.raises(SettingsError, match="timeout_min_s is above timeout_max_s"):
        make_book(timeout_min_s=10.0, timeout_max_s=5.0)


# Rules for errors -------------------------------------------------------------------------------


def follow_up(
    book: StrategyBook, clock: FastClock, strategy: str, wait_s: float, *, right: int, wrong: int
) -> None:
    for number, success in enumerate([True] * right + [False] * wrong):
        task = f"{strategy} {wait_s} {number}"
        book.record(False, "llm", "billing", "timeout", task_id=task)
        clock.move(wait_s)
        book.record(success, strategy, "billing", task_id=task)


def test_a_rule_has_the_most_successful_reaction_with_its_evidence(
    make_book: MakeBook, clock: FastClock
) -> None:
    book = make_book()
    assert not book.rules.rule("timeout", "billing").learned
    follow_up(book, clock, "llm", 0.0, right=2, wrong=18)
    follow_up(book, clock, "llm", 5.0, right=6, wrong=14)
    follow_up(book, clock, "spacy", 0.0, right=18, wrong=2)
    rule = book.rules.rule("timeout", "billing")
    assert (rule.action, rule.learned, rule.domain) == ("switch", True, "billing")
    assert rule.text == (
        "timeout in billing: switch (60 errors; success after retry 2 of 20, success after back off 6 of 20, "
        "success after switch 18 of 20)"
    )
    assert book.recommend("billing").rules == (rule,)
    chosen = Counter(book.rules.choose("timeout", "billing") for _ in range(300))
    assert chosen["switch"] >= 200


def test_another_domain_borrows_the_rule(make_book: MakeBook, clock: FastClock) -> None:
    book = make_book()
    follow_up(book, clock, "spacy", 0.0, right=18, wrong=2)
    rule = book.rules.rule("timeout", "travel")
    assert (rule.action, rule.domain) == ("switch", None)
    assert rule.text.startswith("timeout in any domain: switch")


def test_it_gives_up_if_nothing_helps(make_book: MakeBook, clock: FastClock) -> None:
    book = make_book()
    follow_up(book, clock, "llm", 0.0, right=0, wrong=60)
    assert book.rules.rule("timeout", "billing").action == "give_up"
    assert book.rules.choose("timeout", "billing") == "give_up"


def test_a_late_attempt_is_no_reaction(make_book: MakeBook, clock: FastClock) -> None:
    book = make_book()
    follow_up(book, clock, "llm", 4_000.0, right=20, wrong=0)
    assert not book.rules.rule("timeout", "billing").learned


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
    make_book: MakeBook, clock: FastClock, tmp_path: Path
) -> None:
    async with open_store(tmp_path / "karen.db", load_settings().store) as store:
        one, other = make_book(store=store), make_book(store=store)
        attempt(one, "llm", "billing", right=3)
        attempt(other, "llm", "billing", right=2, wrong=1)
        for book in (one, other, one):
            await book.sync()
        for book in (one, other):
            found = book.chooser.estimates("billing")[0]
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
        stranger = make_book(store=store, tenant="other")
        await stranger.sync()
        assert stranger.chooser.domains() == ()


async def test_the_state_survives_a_restart(make_book: MakeBook, clock: FastClock, tmp_path: Path) -> None:
    place = tmp_path / "karen.db"
    async with open_store(place, load_settings().store) as store:
        book = make_book(store=store)
        attempt(book, "llm", "a\0b 'c", right=8)
        await book.sync()
    clock.move(DAY)
    async with open_store(place, load_settings().store) as store:
        again = make_book(store=store)
        await again.sync()
        assert again.chooser.estimates("a\0b 'c")[0].successes == pytest.approx(4.0)


async def test_what_cannot_be_stored_is_stored_later(make_book: MakeBook, tmp_path: Path) -> None:
    place = tmp_path / "karen.db"
    async with open_store(place, load_settings().store):
        pass
    async with open_store(place, load_settings().store, read_only=True) as closed:
        book = make_book(store=closed)
        attempt(book, "llm", "billing", right=3)
        await book.sync()
    assert book.chooser.estimates("billing")[0].successes == 3.0
    async with open_store(place, load_settings().store) as store:
        book._store = store
        await book.sync()
        await book.sync()
        (row,) = (await store.strategies("acme")).tallies
        assert row.counts == {"success": 3.0}
