"""The verdict on a candidate: the checks of all gates. Pure; `ModelValidator` computes it in a thread."""

from __future__ import annotations

from collections.abc import Sequence

from asyncio_extras import call_in_executor

from karen_learner.records import TASKS, Decision, Example, GateCheck, Task, Verdict
from karen_learner.settings import Settings
from karen_learner.validation.evidence import Evidence
from karen_learner.validation.gates import GATES
from karen_learner.validation.gates.improved import missing, tasks_with_gain
from karen_learner.validation.gates.limits import is_harmful
from karen_learner.validation.likely import likely_better
from karen_learner.validation.results import Prediction
from karen_learner.validation.scoring import ScoredTexts, score

FIRST_MODEL = "first model: deployed without a gate"
NO_GOLD = "no judged gold texts: add gold examples"
QUARANTINE_AFTER = 2
"""Harmful rejections after which an example is quarantined."""
SHOWS_WORSE = frozenset({"not_worse", "anchor"})
"""The gates that fail if a candidate is worse."""


class ModelValidator:
    """Scores and verdicts by the current `settings`; a `Gate`.

    Computes in a thread: 3,000 texts take some tenths of a second. Raises SettingsError for an unknown gate.
    """

    def __init__(self, settings: Settings) -> None:
        GATES.find_all(settings.gate.gates)
        self._settings = settings

    async def score(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> ScoredTexts:
        """The scores of one model, from one prediction for each example. See `scoring.score`."""
        thresholds = self._settings.thresholds.model_copy()
        scored: ScoredTexts = await call_in_executor(score, examples, predictions, thresholds=thresholds)
        return scored

    async def judge(self, evidence: Evidence) -> Verdict:
        """The verdict on a candidate. See `judge`."""
        gate, thresholds = self._settings.gate.model_copy(), self._settings.thresholds.model_copy()
        settings = self._settings.model_copy(update={"gate": gate, "thresholds": thresholds})
        verdict: Verdict = await call_in_executor(judge, evidence, settings)
        return verdict


def judge(evidence: Evidence, settings: Settings) -> Verdict:
    """The verdict on a candidate: accepted if all checks of the gates in `gate.gates` pass.

    It is `provisional` if only a gain is not shown, but likely: it serves, and is no champion.

    Without a champion the candidate is accepted, without judged gold it is refused. `harmful`: a trained task
    is worse by two standard errors. Raises SettingsError for an unknown gate.
    """
    if evidence.champion is None:
        check = GateCheck(name="first_model", passed=True, detail=FIRST_MODEL)
        improved = tuple(task for task in TASKS if task in evidence.candidate.by_task)
        return _without_gates(evidence, check, improved=improved)
    if not any(evidence.on_gold(task) for task in TASKS):
        return _without_gates(evidence, GateCheck(name="gold", passed=False, detail=NO_GOLD))
    return _judged(evidence, settings)


def _without_gates(evidence: Evidence, check: GateCheck, *, improved: tuple[Task, ...] = ()) -> Verdict:
    return Verdict(
        accepted=check.passed,
        harmful=False,
        improved=improved,
        checks=(check,),
        decision="accepted" if check.passed else "refused",
        alpha=evidence.alpha,
        risk=evidence.risk,
    )


def _judged(evidence: Evidence, settings: Settings) -> Verdict:
    found = {
        name: tuple(gate(evidence, settings)) for name, gate in GATES.find_all(settings.gate.gates).items()
    }
    failed = {name for name, checks in found.items() if not all(check.passed for check in checks)}
    better = tasks_with_gain(evidence)
    decision = _decision(failed)
    likely = likely_better(evidence) if decision == "too_close" else None
    return Verdict(
        accepted=not failed,
        harmful=bool(failed & SHOWS_WORSE) and is_harmful(evidence),
        improved=tuple(task for task in TASKS if task in better),
        checks=(
            *(check for checks in found.values() for check in checks),
            *((likely,) if likely is not None else ()),
        ),
        decision=decision if likely is None else "provisional",
        alpha=evidence.alpha,
        risk=evidence.risk,
        missing=missing(evidence) if decision == "too_close" else None,
    )


def _decision(failed: set[str]) -> Decision:
    if not failed:
        return "accepted"
    if failed & SHOWS_WORSE:
        return "worse"
    return "too_close" if failed == {"improved"} else "refused"
