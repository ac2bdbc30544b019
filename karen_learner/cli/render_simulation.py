"""A simulation: one row per cycle, a chart, and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.bar import Bar
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from karen_learner.cli.output import text
from karen_learner.cli.render_decisions import DECIDED, STATUS_STYLES
from karen_learner.cli.tables import change, cut, facts
from karen_learner.simulation import Attack, Exchange, Refit, Step

BAR_CELLS = 40
CELL_WIDTH = 6
STATUS_WIDTH = 11


def step_lines(step: Step) -> list[Text]:
    """One step as a line, and the reason if nothing was deployed. The bootstrap has a header."""
    scores: list[tuple[str, float | None]] = [*step.scores.by_task.items()]
    if len(scores) != 1:
        scores.insert(0, ("all", step.scores.accuracy))
    cells = {
        "cycle": step.cycle,
        "turns": step.turns,
        "fdbk": step.feedback,
        "corr.": step.corrections,
        "new": step.new_examples,
        "replay": step.replay_examples,
        **{name: "-" if value is None else f"{value:.3f}" for name, value in scores},
        "time": f"{step.cycle_s:.1f}s",
    }
    widths = {name: max(CELL_WIDTH, len(name)) for name in cells}
    header = "  ".join(f"{name:>{width}}" for name, width in widths.items())
    line = text("  ".join(f"{cells[name]:>{width}}" for name, width in widths.items()))
    line.append_text(text(f"  {_ended(step):<{STATUS_WIDTH}}", STATUS_STYLES[step.status]))
    line.append_text(text(f"  {step.version or 'the fallback'}"))
    above = [text(f"{header}  {'status':<{STATUS_WIDTH}}  live", "bold")] if step.cycle == 0 else []
    below = [text(f"{'':{CELL_WIDTH}}  {step.message}", "dim")] if step.message is not None else []
    return [*above, line, *below]


def _ended(step: Step) -> str:
    """The status of a cycle, or its decision if that says more."""
    return step.status if step.decision is None else DECIDED.get(step.decision, step.status)


def chart(steps: Sequence[Step], refit: Refit | None) -> RenderableType:
    """Bars of the accuracy after each cycle and of the refit."""
    bars = [
        (
            f"cycle {step.cycle}",
            step.scores.accuracy or 0.0,
            "green" if step.status == "deployed" else "yellow",
        )
        for step in steps
    ]
    if refit is not None:
        bars.append(("refit", refit.scores.accuracy or 0.0, "blue"))
    low = max(0.0, int(min(value for _, value, _ in bars) * 20 - 1) / 20)
    high = max(low + 0.05, *(value for _, value, _ in bars))
    title = f"Accuracy on the test texts (bars start at {low:.2f})"
    made = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    for name, value, colour in bars:
        bar = Bar(high - low, 0, value - low, width=BAR_CELLS, color=colour)
        made.add_row(name, bar, text(f"{value:.3f}", "bold"))
    return made


def summary(steps: Sequence[Step], refit: Refit | None) -> RenderableType:
    """Gains, distance to the refit, and cost."""
    first, last = steps[0].scores, steps[-1].scores
    shown: dict[str, object] = {
        task: _gain(before, last.by_task[task]) for task, before in first.by_task.items()
    }
    if len(first.by_task) > 1 and first.accuracy is not None and last.accuracy is not None:
        shown["all"] = _gain(first.accuracy, last.accuracy)
    if refit is not None and refit.scores.accuracy is not None and last.accuracy is not None:
        seconds, learned = f"{refit.seconds:.1f} s", f"{refit.training_examples} examples"
        shown["refit from scratch"] = f"{refit.scores.accuracy:.3f} in {seconds} from {learned}"
        shown["minus refit"] = f"{last.accuracy - refit.scores.accuracy:+.3f}"
    return facts(shown | _cost(steps))


def _gain(before: float, after: float) -> Text:
    return text(f"{before:.3f} -> {after:.3f}  ").append_text(change(before, after))


def _cost(steps: Sequence[Step]) -> dict[str, object]:
    turns, feedback = sum(step.turns for step in steps), sum(step.feedback for step in steps)
    corrections = sum(step.corrections for step in steps)
    ended = Counter(_ended(step) for step in steps)
    turns_s, cycles_s = sum(step.turns_s for step in steps), sum(step.cycle_s for step in steps)
    pace = f" ({turns / turns_s:,.0f} turns/s)" if turns_s > 0 else ""
    training = sum(step.stage_seconds.get("training", 0.0) for step in steps)
    return {
        "turns": f"{turns}, {feedback} with feedback, {corrections} corrected",
        "cycles": ", ".join(f"{count} {status}" for status, count in ended.items()),
        "seconds": f"{turns_s:.1f} in turns{pace}, {cycles_s:.1f} in cycles",
        "training seconds": f"{training:.1f}",
    }


def exchange_lines(exchange: Exchange) -> list[Text]:
    """A text, its analysis, and the feedback."""
    answer = exchange.answer
    found = [answer.intent, answer.sentiment, *(f"{label}: {words}" for words, label in answer.entities)]
    understood = ", ".join(part for part in found if part is not None)
    heading = text(f"  {exchange.user_id}  ", "dim")
    return [
        heading.append_text(text(f'"{cut(exchange.gold.text)}"', "italic")),
        text(f"            analysis   {understood}"),
        text(f"            feedback   {_reaction(exchange.feedback or {}, exchange.gold.text)}", "cyan"),
    ]


def _reaction(feedback: Mapping[str, Any], user_text: str) -> str:
    stated = [feedback[key] for key in ("corrected_intent", "corrected_sentiment") if feedback.get(key)]
    spans = feedback.get("corrected_entities")
    if spans is not None:
        words = [f"{span['label']}: {user_text[span['start'] : span['end']]}" for span in spans]
        stated += words or ["no entities"]
    parts = [f"corrected: {', '.join(stated)}"] if stated else []
    rating = feedback.get("satisfaction_score")
    if rating is not None:
        parts.append(f"{'good' if rating >= 0.5 else 'poor'} ({rating})")
    return "; ".join(parts) or "none"


def attack_facts(attack: Attack) -> RenderableType:
    """Effect of the poisoned batch."""
    result, digest = attack.result, attack.digest_after[:16]
    effect = "unchanged" if attack.unchanged else f"CHANGED, before {attack.digest_before[:16]}"
    ended = text(f"{result.status} after {result.duration_s:.1f} s", STATUS_STYLES[result.status])
    return facts(
        {
            "poisoned": f"{attack.turns} corrections by {attack.users} users",
            "cycle": ended,
            "reason": result.error_message,
            "digest of the live model": f"{digest} ({effect})",
            "accuracy of the live model": f"{attack.scores_after.accuracy or 0.0:.3f}",
        }
    )
