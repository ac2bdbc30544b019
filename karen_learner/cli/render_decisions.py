"""Decisions of cycles as rows and facts: status, gates, risk, and texts with other answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from karen_learner.cli.output import text
from karen_learner.cli.tables import FittingTable, cut, interval_text
from karen_learner.records import (
    Decision,
    DoubtfulLabel,
    Flip,
    Flips,
    GateCheck,
    LearningCycleResult,
    Risk,
    Verdict,
)
from karen_learner.records.cycles import FLIP_KINDS

STATUS_STYLES = {
    "deployed": "bold green",
    "rejected": "bold yellow",
    "skipped": "bold cyan",
    "failed": "bold red",
    "rolled_back": "bold magenta",
}
DECISIONS: Mapping[Decision, str] = {
    "accepted": "accepted",
    "provisional": "provisional: it serves, and a later decision confirms, replaces or ends it",
    "too_close": "too close to call: nothing is shown worse, and no gain is shown",
    "worse": "worse",
    "refused": "refused",
}
DECIDED: Mapping[Decision, str] = {"too_close": "too close", "provisional": "provisional"}
"""Decisions that `history` shows in place of the status."""
SHOWN_FLIPS = 5
"""Flips of each kind."""
SHOWN_DOUBTS = 10
FLIP_STYLES = {"fixed": "green", "broken": "red", "changed": ""}
PLAIN_BELOW = 1000.0
"""Larger statistics, such as bytes, have no decimals."""


def status_text(result: LearningCycleResult, *, upper: bool = False) -> Text:
    """The status of a cycle, or its decision if that says more."""
    decided = result.verdict.decision if result.verdict is not None else None
    shown = DECIDED.get(decided, result.status) if decided is not None else result.status
    shown = shown.replace("_", " ").upper() if upper else shown
    return text(shown, STATUS_STYLES[result.status])


def decision(verdict: Verdict | None) -> dict[str, object]:
    """The decision of the gates, the texts that would change it, and the risk."""
    if verdict is None or verdict.decision is None:
        return {}
    return {
        "decision": DECISIONS[verdict.decision],
        "missing": verdict.missing,
        "risk": None if verdict.risk is None else _risk(verdict.risk),
    }


def _risk(risk: Risk) -> str:
    return (
        f"{100 * risk.spent:.2f} % spent of {100 * risk.before:.2f} %; {100 * risk.after:.2f} % left "
        f"({risk.judged} judged gold texts)"
    )


def check_row(check: GateCheck) -> dict[str, object]:
    """One check of the gates."""
    return {
        "gate": check.name,
        "": text("passed", "green") if check.passed else text("FAILED", "bold red"),
        "statistic": _number(check.statistic),
        "threshold": _number(check.threshold),
        "95 % interval": None if check.interval is None else interval_text(check.interval, signed=True),
        "result": check.detail,
    }


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}" if abs(value) < PLAIN_BELOW else f"{value:,.0f}"


def flip_tables(flips: Flips, texts: Mapping[str, str]) -> list[RenderableType]:
    """The numbers of texts with other answers by task, and the first texts of each kind."""
    if not flips.first:
        return [text("both models give the same answers to all judged texts", "dim")]
    counts = [{"task": task, **counted} for task, counted in flips.counts.items()]
    return [FittingTable(counts, title="Texts with other answers"), *flip_list(flips.first, texts)]


def flip_list(
    flips: Sequence[Flip], texts: Mapping[str, str], *, names: tuple[str, str] = ("before", "after")
) -> list[RenderableType]:
    """The first flips of each kind. `names` are those of the two versions."""
    rows = [
        _flip_row(flip, texts, names)
        for kind in FLIP_KINDS
        for flip in [flip for flip in flips if flip.kind == kind][:SHOWN_FLIPS]
    ]
    return [FittingTable(rows, optional=["task", "gold"], folded="text")]


def doubt_table(labels: Sequence[DoubtfulLabel], texts: Mapping[str, str]) -> RenderableType:
    """The first doubtful labels, with the label that the shadows give."""
    rows = [
        {
            "task": one.task,
            "feedback": one.stated,
            "shadows": one.predicted,
            "text": cut(texts[one.example_id]) if one.example_id in texts else None,
        }
        for one in labels[:SHOWN_DOUBTS]
    ]
    more = f", {SHOWN_DOUBTS} of {len(labels)}" if len(labels) > SHOWN_DOUBTS else ""
    title = f"Doubtful feedback, which the candidate has not learned{more}: gold decides"
    return FittingTable(rows, title=title, optional=["task"], folded="text")


def _flip_row(flip: Flip, texts: Mapping[str, str], names: tuple[str, str]) -> dict[str, object]:
    stored = texts.get(flip.example_id)
    return {
        "": text(flip.kind, FLIP_STYLES[flip.kind]),
        "task": flip.task,
        "gold": flip.gold,
        names[0]: flip.before,
        names[1]: flip.after,
        "text": None if stored is None else cut(stored),
    }
