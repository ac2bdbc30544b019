"""A chart of a simulation. The only module that imports matplotlib, an extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from karen_learner.errors import InvalidInput
from karen_learner.records import TASKS
from karen_learner.simulation.run import Step
from karen_learner.simulation.scoring import Refit

COLOURS = {"intent": "#1b6ca8", "sentiment": "#d1495b", "entities": "#3c7d44"}


def require_plotting(path: Path) -> None:
    """Raise InvalidInput if no chart can be written to `path`. Call it before a long run."""
    _figure_class()
    if path.suffix.lower() not in {".png", ".svg", ".pdf"}:
        raise InvalidInput(f"cannot write a chart to {path}: give a .png, .svg or .pdf file")
    if not path.absolute().parent.is_dir():
        raise InvalidInput(f"cannot write a chart to {path}: there is no folder {path.absolute().parent}")


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidInput("a chart needs matplotlib: pip install 'karen-learner[plot]'") from error
    return Figure


def draw(steps: Sequence[Step], refit: Refit | None, path: Path) -> None:
    """Write a chart of the scores over the turns, with the refit as a dashed line.

    Cycles without deployment have hollow markers. Blocking. Raises InvalidInput without matplotlib.
    """
    figure = _figure_class()(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    turns = [sum(step.turns for step in steps[: place + 1]) for place in range(len(steps))]
    for task in TASKS:
        scores = [step.scores.by_task.get(task) for step in steps]
        if scores[0] is not None:
            _draw_task(axes, task, turns, scores, [step.status == "deployed" for step in steps])
        if refit is not None and task in refit.scores.by_task:
            axes.axhline(refit.scores.by_task[task], color=COLOURS[task], linestyle="--", linewidth=1)
    axes.set_xlabel("conversation turns")
    axes.set_ylabel("score on the test texts" + (" (dashed: refit from scratch)" if refit else ""))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)


def _draw_task(
    axes: Any, task: str, turns: Sequence[int], scores: Sequence[float | None], deployed: Sequence[bool]
) -> None:
    colour = COLOURS[task]
    axes.plot(turns, scores, color=colour, label="entities (F1)" if task == "entities" else task)
    for turn, value, live in zip(turns, scores, deployed, strict=True):
        axes.plot(turn, value, "o", color=colour, markerfacecolor=colour if live else "white")
