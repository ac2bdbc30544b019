"""A simulation: one row per cycle, a chart, and a summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from karen_learner.cli.render import STATUS_STYLES, cut, facts, text

if TYPE_CHECKING:
    from karen_learner.records import Task
    from karen_learner.simulation import Attack, Exchange, Refit, Scores, Step

EIGHTHS = " ▏▎▍▌▋▊▉█"
SPARKS = "▁▂▃▄▅▆▇█"
BAR_CELLS = 40
COUNTS = ("turns", "fdbk", "corr.", "new", "replay")


def header(tasks: Sequence[Task]) -> Text:
    """Column names of `step_lines`."""
    names = [f"{'cycle':>5}", *(f"{name:>6}" for name in COUNTS)]
    names += [f"{name:>9}" for name in _score_names(tasks)]
    return text("  ".join([*names, f"{'time':>7}", f"{'status':<10}", "live"]), "bold")


def step_lines(step: Step, tasks: Sequence[Task]) -> list[Text]:
    """One step as a line, and the reason if nothing was deployed."""
    why = [] if step.message is None else [text(f"{'':>5}  {step.message}", "dim")]
    return [_step_line(step, tasks), *why]


def _step_line(step: Step, tasks: Sequence[Task]) -> Text:
    counts = (step.turns, step.feedback, step.corrections, step.new_examples, step.replay_examples)
    cells = [f"{step.cycle:>5}", *(f"{count:>6}" for count in counts)]
    cells += [f"{value:>9}" for value in _score_cells(step.scores, tasks)]
    line = text("  ".join([*cells, f"{step.cycle_s:>6.1f}s", ""]))
    line.append_text(text(f"{step.status:<10}", STATUS_STYLES[step.status]))
    return line.append_text(text(f"  {step.version or 'the fallback'}"))


def _score_names(tasks: Sequence[Task]) -> list[str]:
    return ["all" if len(tasks) > 1 else str(tasks[0]), *(tasks if len(tasks) > 1 else ())]


def _score_cells(scores: Scores, tasks: Sequence[Task]) -> list[str]:
    values = [scores.accuracy, *((scores.by_task.get(task) for task in tasks) if len(tasks) > 1 else ())]
    return ["-" if value is None else f"{value:.3f}" for value in values]


def chart(steps: Sequence[Step], refit: Refit | None) -> RenderableType:
    """Bars of the accuracy after each cycle and of the refit."""
    values: list[tuple[str, float, str]] = [
        (f"cycle {step.cycle}", step.scores.accuracy or 0.0, step.status) for step in steps
    ]
    if refit is not None:
        values.append(("refit", refit.scores.accuracy or 0.0, "refit"))
    low = max(0.0, int(min(value for _, value, _ in values) * 20 - 1) / 20)
    high = max(max(value for _, value, _ in values), low + 0.05)
    made = Table(
        title=f"Accuracy on the test texts (bars start at {low:.2f})",
        title_justify="left", box=None, show_header=False, pad_edge=False,
    )  # fmt: skip
    for name, value, status in values:
        style = "green" if status == "deployed" else "blue" if status == "refit" else "yellow"
        made.add_row(text(name), text(bar((value - low) / (high - low)), style), text(f"{value:.3f}", "bold"))
    return made


def bar(share: float, cells: int = BAR_CELLS) -> str:
    """A bar of `share` (0..1) times `cells`, in steps of an eighth."""
    eighths = round(max(0.0, min(1.0, share)) * cells * 8)
    full, part = divmod(eighths, 8)
    return "█" * full + (EIGHTHS[part] if part else "")


def sparkline(values: Sequence[float]) -> str:
    """One character per value, scaled to the range of the values."""
    low, high = min(values), max(values)
    span = high - low
    return "".join(SPARKS[round((value - low) / span * 7) if span > 0 else 3] for value in values)


def summary(steps: Sequence[Step], refit: Refit | None) -> RenderableType:
    """Gains, distance to the refit, and cost."""
    return facts([*_gains(steps), *_distance(steps, refit), *_cost(steps)])


def _gains(steps: Sequence[Step]) -> Iterator[tuple[str, object]]:
    first, last = steps[0].scores, steps[-1].scores
    for task, before in first.by_task.items():
        after = last.by_task[task]
        line = sparkline([step.scores.by_task[task] for step in steps])
        yield task, _change(before, after, f"  {line}")
    if len(first.by_task) > 1 and first.accuracy is not None and last.accuracy is not None:
        yield "all", _change(first.accuracy, last.accuracy)


def _change(before: float, after: float, more: str = "") -> Text:
    style = "green" if after > before else "red" if after < before else ""
    return text(f"{before:.3f} -> {after:.3f}  {after - before:+.3f}{more}", style)


def _distance(steps: Sequence[Step], refit: Refit | None) -> Iterator[tuple[str, object]]:
    last = steps[-1].scores.accuracy
    if refit is not None and refit.scores.accuracy is not None and last is not None:
        learned = f"{refit.training_examples} examples, {refit.dev_examples} dev examples"
        yield "refit from scratch", f"{refit.scores.accuracy:.3f} in {refit.seconds:.1f} s from {learned}"
        yield "minus refit", f"{last - refit.scores.accuracy:+.3f}"


def _cost(steps: Sequence[Step]) -> Iterator[tuple[str, object]]:
    turns, feedback = sum(step.turns for step in steps), sum(step.feedback for step in steps)
    corrections = sum(step.corrections for step in steps)
    yield "turns", f"{turns}, {feedback} with feedback, {corrections} corrected"
    ended = {status: sum(step.status == status for step in steps) for status in STATUS_STYLES}
    yield "cycles", ", ".join(f"{count} {status}" for status, count in ended.items() if count)
    turns_s, cycles_s = sum(step.turns_s for step in steps), sum(step.cycle_s for step in steps)
    pace = f" ({turns / turns_s:,.0f} turns/s)" if turns_s > 0 else ""
    yield "seconds", f"{turns_s:.1f} in turns{pace}, {cycles_s:.1f} in cycles"
    training = sum(step.stage_seconds.get("training", 0.0) for step in steps)
    yield "training seconds", f"{training:.1f}"


def exchange_lines(exchange: Exchange) -> list[Text]:
    """A text, its analysis, and the feedback."""
    answer = exchange.answer
    found = [answer.intent, answer.sentiment, *(f"{label}: {words}" for words, label in answer.entities)]
    understood = ", ".join(part for part in found if part is not None)
    heading = text(f"  {exchange.user_id}  ", "dim").append_text(
        text(f'"{cut(exchange.gold.text)}"', "italic")
    )
    return [
        heading,
        text(f"            analysis   {understood}"),
        text(f"            feedback   {_reaction(exchange.feedback, exchange.gold.text)}", "cyan"),
    ]


def _reaction(feedback: Mapping[str, Any] | None, user_text: str) -> str:
    stated = [
        value for key in ("corrected_intent", "corrected_sentiment") if (value := (feedback or {}).get(key))
    ]
    spans = (feedback or {}).get("corrected_entities")
    if spans is not None:
        stated += [f"{span['label']}: {user_text[span['start'] : span['end']]}" for span in spans] or [
            "no entities"
        ]
    rating = (feedback or {}).get("satisfaction_score")
    parts = [f"corrected: {', '.join(stated)}"] if stated else []
    if rating is not None:
        parts.append(f"{'good' if rating >= 0.5 else 'poor'} ({rating})")
    return "; ".join(parts) or "none"


def attack_facts(attack: Attack) -> RenderableType:
    """Effect of the poisoned batch."""
    result, digest = attack.result, attack.digest_after[:16]
    change = "unchanged" if attack.unchanged else f"CHANGED, before {attack.digest_before[:16]}"
    return facts(
        [
            ("poisoned", f"{attack.turns} corrections by {attack.users} users"),
            (
                "cycle",
                text(f"{result.status} after {result.duration_s:.1f} s", STATUS_STYLES[result.status]),
            ),
            ("reason", result.error_message),
            ("digest of the live model", f"{digest} ({change})"),
            ("accuracy of the live model", f"{attack.scores_after.accuracy or 0.0:.3f}"),
        ]
    )
