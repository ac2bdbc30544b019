"""The gates on candidates of a known true difference, compared with the former rule and a naive one.

    python benchmarks/gates.py --data DIR [--set clinc150|meld] [--cache FOLDER]
                               [--candidates 100] [--lives 40] [--replicates 40]

Models are trained on real texts (`gates_models.py`). The judged texts of a tenant are drawn with replacement
from texts outside of all trainings; each draw is its own text. All rules see the same judged texts.

- `one error`: the former rule. Better if the score is higher, or equal with a log-likelihood higher by one
  standard error; not worse by more than one standard error (0.2 to 10 points).
- `not lower`: the score is not lower.

`likely`: the candidate is not accepted at decision 1, and serves provisionally.

A tenant with 10,000 gold texts is judged on 3,000, as one with 3,000.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gates_factor import print_factor, print_feedback
from gates_models import LABELS, Answers, Pool, read_pool, taken
from numpy.typing import NDArray

from karen_learner.records import Example, Risk, Task
from karen_learner.settings import load_settings
from karen_learner.validation import Anchor, Evidence, ScoredTexts, judge, score
from karen_learner.validation.comparison import NORMAL
from karen_learner.validation.evidence import next_risk
from karen_learner.validation.gates.improved import LIKELIHOOD_LEVEL, improved
from karen_learner.validation.likely import likely_better
from karen_learner.validation.results import TaskResult

CAP = 3000
TENANTS = (60, 300, 800, 3000)
POINTS = (-3.0, -1.0, 0.0, 1.0, 3.0)
DISAGREEMENTS = (0.05, 0.10)
DECISIONS = (1, 20, 100)
FRESH = 0.02
"""Share of the judged texts that is new at each decision, for tenants with fresh texts."""
LIFE = 100
DRIFT, DRIFT_CYCLES = -0.5, 20
SETTINGS = load_settings(environment={})
OTHERS = load_settings(
    environment={}, overrides={"gate.gates": [name for name in SETTINGS.gate.gates if name != "improved"]}
)
UNHARMED = load_settings(environment={}, overrides={"gate.gates": ["not_worse", "anchor"]})

Sides = tuple[Answers, Answers]
"""Candidate and champion on the judged texts."""


@dataclass(frozen=True)
class Tenant:
    """Judged texts of one tenant: their positions in the pool, and their examples."""

    drawn: NDArray[np.int64]
    examples: tuple[Example, ...]
    task: Task

    def sides(self, candidate: Answers, champion: Answers) -> Sides:
        return taken(candidate, self.drawn), taken(champion, self.drawn)

    def evidence(
        self,
        sides: Sides,
        risk: Risk,
        *,
        anchor: Answers | None = None,
        taught: bool = True,
        likelihoods: bool = True,
    ) -> Evidence:
        task = frozenset({self.task})
        best = (
            {}
            if anchor is None
            else {self.task: Anchor(version="best", by_task=self._scored(anchor).by_task)}
        )
        return Evidence(
            examples=self.examples,
            people=((),) * len(self.examples),
            candidate=self._scored(sides[0], likelihoods=likelihoods),
            champion=self._scored(sides[1], likelihoods=likelihoods),
            risk=risk,
            taught=task if taught else frozenset(),
            taught_labels=frozenset((self.task, one.stratum) for one in self.examples if taught),
            trained=task,
            anchors=best,
        )

    def _scored(self, answers: Answers, *, likelihoods: bool = True) -> ScoredTexts:
        positions = np.arange(len(self.drawn))
        known = answers.likelihoods if likelihoods else None
        result = TaskResult(self.task, positions, answers.right.astype(float), known)
        return ScoredTexts(NOTHING.result, {self.task: result})


NOTHING = score((), (), thresholds=SETTINGS.thresholds)


def tenant(pool: Pool, task: Task, gold: int, rng: np.random.Generator) -> Tenant:
    drawn = rng.integers(len(pool.labels), size=min(gold, CAP))
    return Tenant(drawn, tuple(_example(at, pool.labels[text], task) for at, text in enumerate(drawn)), task)


def _example(at: int, label: str, task: Task) -> Example:
    name = str(at)
    return Example.model_construct(
        text=name, example_id=name, key=name, group=name, source="seed", seq=at + 1, quality=1.0,
        stratum=label, **{"intent": None, "sentiment": None, "entities": None, task: label},
    )  # fmt: skip


def risks(examples: Sequence[Example], *, fresh: bool) -> Iterator[Risk]:
    """The risk of each decision of a tenant."""
    risk = None
    for _ in range(LIFE):
        if risk is not None and fresh:
            newest = len(examples) - round(FRESH * len(examples))
            risk = risk.model_copy(update={"newest_seq": newest})
        risk = next_risk(risk, examples, new_examples=True)
        yield risk


def ours(one: Tenant, sides: Sides, levels: Sequence[Risk], *, anchor: Answers | None = None) -> list[bool]:
    """Whether all gates accept the candidate: at each risk, and without likelihoods at the first one."""
    nothing = [False] * (len(levels) + 1)
    if not _possible(sides, max(risk.spent for risk in levels)):
        return nothing
    evidence = one.evidence(sides, levels[0], anchor=anchor)
    shown = [improved(replace(evidence, risk=risk), SETTINGS)[0].passed for risk in levels]
    shown.append(improved(one.evidence(sides, levels[0], likelihoods=False), SETTINGS)[0].passed)
    return shown if any(shown) and judge(evidence, OTHERS).accepted else nothing


def likely(one: Tenant, sides: Sides, risk: Risk) -> bool:
    """Whether the candidate serves provisionally unless it is accepted."""
    evidence = one.evidence(sides, risk)
    return likely_better(evidence) is not None and judge(evidence, OTHERS).accepted


def _possible(sides: Sides, level: float) -> bool:
    """Whether `improved` can pass: a paired z test without clusters and factors, which saves time."""
    tests = (
        (sides[0].right.astype(float) - sides[1].right, level),
        (sides[0].likelihoods - sides[1].likelihoods, min(level, LIKELIHOOD_LEVEL)),
    )
    return any(values.mean() > 0.0 and NORMAL.cdf(-_z(values)) <= of for values, of in tests)


def _z(values: NDArray[np.float64]) -> float:
    return float(values.mean() / max(_error(values), 1e-12))


def _error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) / len(values) ** 0.5


def one_error(sides: Sides) -> bool:
    """The former rule for one taught task, without thresholds."""
    difference = sides[0].right.astype(float) - sides[1].right
    likelihoods = sides[0].likelihoods - sides[1].likelihoods
    if difference.mean() == 0.0:
        return bool(likelihoods.mean() > _error(likelihoods))
    return bool(difference.mean() > 0.0)


def not_lower(sides: Sides) -> bool:
    return bool(sides[0].right.mean() >= sides[1].right.mean())


def print_decisions(pool: Pool, task: Task, candidates: int) -> None:
    """The share of accepted candidates, by size, true difference and decision; each of another tenant."""
    print(f"accepted of {candidates} candidates, %; decision 1/20/100 without, and 100 with fresh texts;")
    print("alone: decision 1 by accuracy alone")
    print("gold   disagree  points |    1    20   100  fresh  alone likely | one error  not lower")
    for gold in TENANTS:
        for disagreement in DISAGREEMENTS:
            for points in POINTS:
                _print_row(pool, task, gold, disagreement, points, candidates)


def _print_row(
    pool: Pool, task: Task, gold: int, disagreement: float, points: float, candidates: int
) -> None:
    rng = np.random.default_rng([gold, round(100 * disagreement), round(10 + points)])
    counts, differ = np.zeros(len(DECISIONS) + 5), 0.0
    examples = tenant(pool, task, gold, rng).examples
    spent = list(risks(examples, fresh=False))
    levels = [*(spent[decision - 1] for decision in DECISIONS), list(risks(examples, fresh=True))[-1]]
    for _ in range(candidates):
        one = tenant(pool, task, gold, rng)
        candidate = pool.candidate(points, disagreement, rng)
        differ += float((candidate.right != pool.champion.right).mean()) / candidates
        sides = one.sides(candidate, pool.champion)
        accepted = ours(one, sides, levels)
        serves = not accepted[0] and likely(one, sides, levels[0])
        counts += [*accepted, serves, one_error(sides), not_lower(sides)]
    *shares, former, naive = counts / candidates
    cells = "".join(f"{share:6.0%}" for share in shares)
    target = _target(gold, disagreement, points, shares[0])
    row = f"{gold:6,} {differ:8.1%} {points:+7.0f} |{cells} | {former:9.0%} {naive:10.0%}{target}"
    print(row, flush=True)


def _target(gold: int, disagreement: float, points: float, share: float) -> str:
    if points == 0.0:
        return met(share <= 0.10, "at most 10 %")
    if points == -1.0:
        return met(share <= 0.05, "at most 5 %")
    enough = gold >= 800 if disagreement <= 0.05 else gold >= 3000
    return met(share >= 0.80, "at least 80 %") if points == 3.0 and enough else ""


def met(reached: bool, target: str) -> str:
    return f"   {target}: {'met' if reached else 'MISSED'}"


def print_lives(pool: Pool, task: Task, lives: int) -> None:
    """Lives of 100 decisions about candidates without a gain on the same judged texts."""
    print(f"\nlives of {LIFE} candidates without a gain, of {lives} lives: with a deployment, %")
    for gold in (300, 800, 3000):
        for fresh in (False, True):
            rng = np.random.default_rng([7, gold, fresh])
            deployed = np.mean([_deploys(pool, task, gold, rng, fresh=fresh) for _ in range(lives)])
            name = "fresh texts" if fresh else "same texts"
            target = "" if fresh else met(deployed <= 0.10, "at most 10 %")
            print(f"{gold:6,} {name:12} {deployed:6.1%}{target}", flush=True)


def _deploys(pool: Pool, task: Task, gold: int, rng: np.random.Generator, *, fresh: bool) -> bool:
    one = tenant(pool, task, gold, rng)
    for risk in risks(one.examples, fresh=fresh):
        if fresh:
            renewed = rng.random(len(one.drawn)) < FRESH
            drawn = np.where(renewed, rng.integers(len(pool.labels), size=len(one.drawn)), one.drawn)
            one = Tenant(drawn, one.examples, task)
        sides = one.sides(pool.candidate(0.0, 0.08, rng), pool.champion)
        if ours(one, sides, [risk])[0]:
            return True
    return False


def print_ends(pool: Pool, task: Task, lives: int) -> None:
    """The true accuracy after 100 cycles of candidates of the same training size, and the score's rise."""
    print(f"\n{LIFE} cycles of candidates of the same training size, mean of {lives} lives: points")
    print("  gold  rule         true change   change of the score   worst true change")
    for gold in (300, 3000):
        for name in ("ours", "one error", "not lower"):
            ends = np.array(
                [_end(pool, task, gold, name, np.random.default_rng([8, gold, at])) for at in range(lives)]
            )
            true, judged = 100 * ends.mean(axis=0)
            worst = 100 * ends[:, 0].min()
            target = met(true >= -0.5, "not below -0.5") if name == "ours" else ""
            print(f"{gold:6,}  {name:10} {true:+12.2f} {judged:+21.2f} {worst:+18.2f}{target}", flush=True)


def _end(pool: Pool, task: Task, gold: int, rule: str, rng: np.random.Generator) -> tuple[float, float]:
    one = tenant(pool, task, gold, rng)
    first = champion = anchor = pool.champion
    for risk in risks(one.examples, fresh=False):
        candidate = pool.mixed(pool.equal, rng)
        sides = one.sides(candidate, champion)
        if rule == "ours":
            accepted = ours(one, sides, [risk], anchor=taken(anchor, one.drawn))[0]
        else:
            accepted = one_error(sides) if rule == "one error" else not_lower(sides)
        if accepted:
            champion = candidate
            if sides[0].accuracy > taken(anchor, one.drawn).accuracy:
                anchor = candidate
    scores = [taken(model, one.drawn).accuracy for model in (champion, first)]
    return champion.accuracy - first.accuracy, scores[0] - scores[1]


def print_drift(pool: Pool, task: Task, lives: int) -> None:
    """Another task gains at each cycle; this one truly loses half a point against the champion."""
    print(f"\n{DRIFT_CYCLES} cycles that lose {-DRIFT} point of a task that is not taught; {lives} lives")
    for gold in (800, 3000):
        for rule in ("ours", "one error"):
            runs = [
                _drift(pool, task, gold, rule, np.random.default_rng([9, gold, at])) for at in range(lives)
            ]
            cycles, lost = np.mean(runs, axis=0)
            print(
                f"{gold:6,}  {rule:10} deployed {cycles:5.1f}   true change {100 * lost:+6.2f} points",
                flush=True,
            )


def _drift(pool: Pool, task: Task, gold: int, rule: str, rng: np.random.Generator) -> tuple[int, float]:
    one = tenant(pool, task, gold, rng)
    first = champion = anchor = pool.champion
    risk, deployed = next_risk(None, one.examples, new_examples=True), 0
    for _ in range(DRIFT_CYCLES):
        candidate = pool.candidate(DRIFT, 0.05, rng, champion)
        sides = one.sides(candidate, champion)
        if rule == "ours":
            best = taken(anchor, one.drawn)
            accepted = judge(one.evidence(sides, risk, anchor=best, taught=False), UNHARMED).accepted
        else:
            difference = sides[0].right.astype(float) - sides[1].right
            accepted = difference.mean() >= -min(0.1, max(0.002, _error(difference)))
        if accepted:
            champion, deployed = candidate, deployed + 1
            if sides[0].accuracy > taken(anchor, one.drawn).accuracy:
                anchor = candidate
    return deployed, champion.accuracy - first.accuracy


def print_models(pool: Pool, size: int) -> None:
    """True accuracies of the trained models."""
    before = pool.champion.right
    print(f"{size:,} texts in the pool; accuracy on the test file:")
    print("  " + ", ".join(f"{name} {value:.3f}" for name, value in pool.on_test.items()))
    disagree = [float((one.right != before).mean()) for one in (*pool.equal, *pool.worse, *pool.better)]
    print(
        f"  right or wrong otherwise than the champion: {min(disagree):.1%} to {max(disagree):.1%}\n",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", default="clinc150", choices=list(LABELS))
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--lives", type=int, default=40)
    parser.add_argument("--replicates", type=int, default=40)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        cache = options.cache or Path(folder)
        cache.mkdir(parents=True, exist_ok=True)
        pool = read_pool(options.set, options.data, cache)
    task: Task = "intent" if LABELS[options.set] == "intent" else "sentiment"
    print_models(pool, len(pool.labels))
    print_decisions(pool, task, options.candidates)
    print_lives(pool, task, options.lives)
    print_ends(pool, task, max(1, options.lives // 4))
    print_drift(pool, task, max(1, options.lives // 4))
    print_factor(options.data, options.replicates)
    print_feedback(options.data, options.replicates)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
