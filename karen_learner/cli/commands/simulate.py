"""`simulate`: learning cycles on labelled texts with simulated users."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from karen_learner.cli.context import Context
from karen_learner.cli.options import Mode, with_common_options
from karen_learner.cli.output import Output
from karen_learner.cli.progress import learning_progress
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import Task
    from karen_learner.settings import Settings
    from karen_learner.simulation import Corpus, Refit, Scenario, Step

TENANT = "simulation"

TrainFile = Annotated[
    Path,
    typer.Argument(
        metavar="TRAIN",
        help="Labelled texts (.jsonl), or a folder with train.jsonl and test.jsonl.",
        exists=True,
    ),
]
TestFile = Annotated[
    Path | None,
    typer.Argument(metavar="TEST", help="Test texts; never used for training.", exists=True, dir_okay=False),
]
Shots = Annotated[int, typer.Option(help="Gold texts of each label for the bootstrap.", min=2)]
CorrectionRate = Annotated[
    float, typer.Option(help="Share of wrong answers that users correct.", min=0, max=1)
]
RatingRate = Annotated[float, typer.Option(help="Share of answers that users rate.", min=0, max=1)]
Noise = Annotated[float, typer.Option(help="Share of feedback that is wrong.", min=0, max=1)]
Users = Annotated[int, typer.Option(help="Number of users, of unequal activity.", min=1)]
Cycles = Annotated[
    int | None,
    typer.Option(help="Number of learning cycles. Default: 10.", min=1, show_default=False),
]
Every = Annotated[
    int | None,
    typer.Option(help="Turns per cycle, instead of --cycles.", min=1, show_default=False),
]
Limit = Annotated[int | None, typer.Option(help="Maximum number of turns.", min=1, show_default=False)]
ModeOption = Annotated[Mode, typer.Option(help="Training mode of the cycles.")]
Seed = Annotated[int, typer.Option(help="Seed of the shots, the order and the feedback.")]
KeptHome = Annotated[
    Path | None,
    typer.Option(
        help="Keep the home in this new folder.", metavar="DIR", file_okay=False, show_default=False
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(help="Write a chart (.png, .svg, .pdf).", metavar="FILE", show_default=False),
]
Save = Annotated[
    Path | None,
    typer.Option(
        help="Write the JSON document to this file too.", metavar="FILE", dir_okay=False, show_default=False
    ),
]
Refitted = Annotated[bool, typer.Option(help="Train from scratch at the end, for comparison.")]


@with_common_options
def simulate(
    context: Context,
    train: TrainFile,
    test: TestFile = None,
    shots: Shots = 10,
    correction_rate: CorrectionRate = 0.3,
    rating_rate: RatingRate = 0.3,
    noise: Noise = 0.0,
    users: Users = 50,
    cycles: Cycles = None,
    every: Every = None,
    limit: Limit = None,
    mode: ModeOption = Mode.auto,
    seed: Seed = 0,
    keep_home: KeptHome = None,
    plot: Plot = None,
    save: Save = None,
    refit: Refitted = True,
) -> int:
    """Simulate users on labelled texts: bootstrap from a few, send the others as turns.

    The live model answers each text. Users correct and rate some answers.
    After each cycle, the test texts measure the live model.
    --config and --set give the settings. The home is temporary.
    """
    from karen_learner.simulation import FeedbackRates, Scenario, read_corpus
    from karen_learner.simulation.plot import require_plotting

    if cycles is not None and every is not None:
        raise typer.BadParameter("--cycles and --every exclude each other: give one")
    if plot is not None:
        require_plotting(plot)
    rates = FeedbackRates(correction_rate=correction_rate, rating_rate=rating_rate, noise=noise)
    scenario = Scenario(
        shots=shots, rates=rates, users=users, cycles=cycles, every=every, limit=limit,
        mode=mode.value, seed=seed,
    )  # fmt: skip
    run = _Run(context.output, read_corpus(train, test), scenario)
    _simulate(run, context, keep_home=keep_home, with_refit=refit)
    _write_files(run, plot=plot, save=save)
    run.show_summary(keep_home, plot)
    return ExitCode.OK


def _simulate(run: _Run, context: Context, *, keep_home: Path | None, with_refit: bool) -> None:
    from karen_learner.simulation.homes import fresh_home, isolated

    settings = isolated(context.settings())
    with fresh_home(keep_home) as home:
        asyncio.run(run.execute(home, settings, with_refit=with_refit))


def _write_files(run: _Run, *, plot: Path | None, save: Path | None) -> None:
    from karen_learner.simulation.plot import draw

    if plot is not None:
        draw(run.steps, run.refit, plot)
    if save is not None:
        run.save(save)


class _Run:
    """One simulation and its output."""

    def __init__(self, output: Output, corpus: Corpus, scenario: Scenario) -> None:
        self._output = output
        self._corpus = corpus
        self._scenario = scenario
        self._tasks = evaluated_tasks(corpus)
        self.steps: list[Step] = []
        self.refit: Refit | None = None

    async def execute(self, home: Path, settings: Settings, *, with_refit: bool) -> None:
        from karen_learner.cli.render_simulation import header, step_lines
        from karen_learner.factory import create_autonomous_learner
        from karen_learner.simulation import refit, simulate

        self._show(header(self._tasks))
        async with create_autonomous_learner(home, settings=settings) as learner:
            steps = simulate(learner, TENANT, self._corpus, self._scenario)
            async for step in with_progress(self._output, learner, steps):
                self.steps.append(step)
                for line in step_lines(step, self._tasks):
                    self._show(line)
            if with_refit:
                self._output.note("training from scratch on all curated examples ...", style="dim")
                self.refit = await refit(learner, TENANT, self._corpus.test, folder=home / "refit")

    def _show(self, part: RenderableType) -> None:
        """Print a part of the result at once. `--json` prints one document at the end."""
        if not self._output.json:
            self._output.result(None, part)

    def show_summary(self, home: Path | None, plot: Path | None) -> None:
        from karen_learner.cli.render import text
        from karen_learner.cli.render_simulation import chart, summary

        shown = [text(""), chart(self.steps, self.refit), text(""), summary(self.steps, self.refit)]
        places = [text(f"{what}: {place}") for what, place in (("home", home), ("plot", plot)) if place]
        self._output.result(self._document(), *shown, *places)

    def save(self, path: Path) -> None:
        """Write the result as a JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self._document(), indent=2) + "\n", encoding="utf-8")

    def _document(self) -> dict[str, Any]:
        first, last = self.steps[0].scores.accuracy, self.steps[-1].scores.accuracy
        refitted = self.refit.scores.accuracy if self.refit else None
        return {
            "scenario": self._scenario.to_dict(),
            "corpus": {"train": len(self._corpus.train), "test": len(self._corpus.test)},
            "steps": [step.to_dict() for step in self.steps],
            "refit": self.refit.to_dict() if self.refit else None,
            "first": first,
            "last": last,
            "gain": None if first is None or last is None else last - first,
            "against_refit": None if last is None or refitted is None else last - refitted,
        }


def evaluated_tasks(corpus: Corpus) -> tuple[Task, ...]:
    """Tasks with labels in the test texts."""
    found = {task for example in corpus.test for task in example.tasks}
    return tuple(sorted(found, key=("intent", "sentiment", "entities").index))


async def with_progress(
    output: Output, learner: AutonomousLearner, steps: AsyncIterator[Step]
) -> AsyncIterator[Step]:
    """The same steps, with progress bars of the learner during each."""
    while True:
        async with learning_progress(output, learner):
            step = await anext(steps, None)
        if step is None:
            return
        yield step
