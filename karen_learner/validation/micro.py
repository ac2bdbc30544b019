"""The checks of a micro-update. It shows no gain, so its version is provisional: only harm rejects it.

The gold texts were learned by both models, so a loss is forgetting. The next decision of the gates confirms
or ends the provisional version; the stated risk does not cover the time until then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from asyncio_extras import call_in_executor

from karen_learner.models.files import HomeLayout
from karen_learner.records import TASKS, CycleContext, GateCheck, Verdict
from karen_learner.records.training import Predicted
from karen_learner.training.shadows import read_judged
from karen_learner.training.stage import MicroUpdate
from karen_learner.validation.comparison import compare, z_of
from karen_learner.validation.evidence import Agreement, share_of_equal
from karen_learner.validation.gates.limits import LEVEL, agreement_check
from karen_learner.validation.results import Prediction
from karen_learner.validation.scoring import results_by_task

NO_GOLD = "no learned gold texts: a micro-update cannot be checked for harm"
MIN_TEXTS = 30
"""Number of texts below which a share is too uncertain."""
MAX_CHANGED_ANSWERS = 0.1
"""The largest share of recent texts, without the new examples, that a micro-update answers otherwise."""


async def judge_update(layout: HomeLayout, update: MicroUpdate) -> Verdict:
    """The verdict on a micro-update: `provisional`, `worse` (on gold, or without gold) or `refused`."""
    verdict: Verdict = await call_in_executor(_judge, _judged_folder(layout, update.cycle), update)
    return verdict


def _judged_folder(layout: HomeLayout, cycle: CycleContext) -> Path | None:
    """The folder of the champion's shadows."""
    return layout.shadows(cycle.tenant_id, cycle.champion.version) if cycle.champion is not None else None


def _judge(folder: Path | None, update: MicroUpdate) -> Verdict:
    gold = tuple(_gold_checks(update)) or (GateCheck(name="gold", passed=False, detail=NO_GOLD),)
    # A champion with former labels is trained in full: a micro-update never follows it.
    known = read_judged(folder, {}) if folder is not None else {}
    checks = (*gold, *_agreement_checks(known, update), *_changes_checks(update))
    accepted = all(check.passed for check in checks)
    worse = not all(check.passed for check in gold)
    return Verdict(
        accepted=accepted,
        harmful=False,
        improved=(),
        checks=checks,
        decision="provisional" if accepted else "worse" if worse else "refused",
    )


def _gold_checks(update: MicroUpdate) -> Iterator[GateCheck]:
    """A check of each trained task on the learned gold: not shown worse at 5 %."""
    people: Sequence[Sequence[str]] = [()] * len(update.gold)
    before, after = (
        results_by_task(update.gold, [Prediction.from_row(one.row, one.right) for one in answers])
        for answers in (
            update.before.predicted[: len(update.gold)],
            update.after.predicted[: len(update.gold)],
        )
    )
    for task in TASKS:
        if task in update.trained_tasks and task in after:
            one = compare(task, after[task], before[task], update.gold, people)
            worse = one.p_worse <= LEVEL
            yield GateCheck(
                name=f"{task}_not_worse",
                passed=not worse,
                detail=(
                    f"{task} {one.before:.3f} -> {one.after:.3f} on {one.texts} learned gold texts"
                    f"{': worse' if worse else ''}"
                ),
                statistic=-z_of(one.p_worse),
                interval=one.interval,
                threshold=-z_of(LEVEL),
            )


def _agreement_checks(known: Mapping[str, Predicted], update: MicroUpdate) -> Iterator[GateCheck]:
    """The agreement with the recorded answers of the champion's shadows on judged gold."""
    places = [at for at, example in enumerate(update.gold) if example.example_id in known]
    if len(places) < MIN_TEXTS:
        return
    shadows = [known[update.gold[at].example_id] for at in places]
    yield agreement_check(
        Agreement(
            candidate=share_of_equal([update.after.predicted[at] for at in places], shadows),
            champion=share_of_equal([update.before.predicted[at] for at in places], shadows),
            texts=len(places),
        ),
        of="judged gold texts",
    )


def _changes_checks(update: MicroUpdate) -> Iterator[GateCheck]:
    """The share of recent texts with another answer than that of the version served before."""
    first = len(update.gold)
    before, after = update.before.predicted[first:], update.after.predicted[first:]
    if len(before) < MIN_TEXTS:
        return
    changed = 1.0 - share_of_equal(before, after)
    passed = changed <= MAX_CHANGED_ANSWERS
    limit = "" if passed else f"; the limit is {MAX_CHANGED_ANSWERS:.0%}"
    yield GateCheck(
        name="changed_answers",
        passed=passed,
        detail=f"{changed:.1%} of {len(before)} recent texts get another answer{limit}",
        statistic=changed,
        threshold=MAX_CHANGED_ANSWERS,
    )
