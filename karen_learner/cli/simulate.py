"""`karen-learner simulate`: the main job on labelled texts that stand in for users."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import RenderableType

from karen_learner.cli.arguments import Mode
from karen_learner.cli.exits import ExitCode
from karen_learner.cli.invocation import Invocation
from karen_learner.cli.options import with_common_options
from karen_learner.cli.output import Output
from karen_learner.cli.progress import learning_progress
from karen_learner.cli.scenario_options import (
    CorrectionRate,
    Cycles,
    Every,
    KeptHome,
    Limit,
    ModeOption,
    Noise,
    Plot,
    RatingRate,
    Refitted,
    Save,
    Seed,
    Shots,
    TestFile,
    TrainFile,
    Users,
)

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import Task
    from karen_learner.settings import Settings
    from karen_learner.simulation import Corpus, Refit, Scenario, Step

TENANT = "simulation"


@with_common_options
def simulate(
    invocation: Invocation,
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
    """Let labelled texts stand in for users: bootstrap from a few, the others arrive as conversations.

    The live model answers each text; users correct and rate some answers; cycles run; the test file,
    which is used for nothing else, judges the live model after each. Settings are taken from --config
    and --set; everything is stored in a temporary home.
    """
    from karen_learner.simulation import Habits, Scenario, read_corpus
    from karen_learner.simulation.plot import require_plotting

    if cycles is not None and every is not None:
        raise typer.BadParameter("give --cycles or --every, not both")
    if plot is not None:
        require_plotting(plot)
    scenario = Scenario(
        shots=shots, habits=Habits(correction_rate=correction_rate, rating_rate=rating_rate, noise=noise),
        users=users, cycles=cycles, every=every, limit=limit, mode=mode.value, seed=seed,
    )  # fmt: skip
    run = _Run(invocation.output, read_corpus(train, test), scenario)
    _play(run, invocation, keep_home=keep_home, with_refit=refit)
    _leave_behind(run, plot=plot, save=save)
    run.conclude(keep_home, plot)
    return ExitCode.OK


def _play(run: _Run, invocation: Invocation, *, keep_home: Path | None, with_refit: bool) -> None:
    from karen_learner.simulation.homes import fresh_home, isolated

    settings = isolated(invocation.settings())
    with fresh_home(keep_home) as home:
        asyncio.run(run.play(home, settings, with_refit=with_refit))


def _leave_behind(run: _Run, *, plot: Path | None, save: Path | None) -> None:
    from karen_learner.simulation.plot import draw

    if plot is not None:
        draw(run.steps, run.refit, plot)
    if save is not None:
        run.save(save)


class _Run:
    """One simulation: what is shown while it runs and when it is over."""

    def __init__(self, output: Output, corpus: Corpus, scenario: Scenario) -> None:
        self._output = output
        self._corpus = corpus
        self._scenario = scenario
        self._tasks = judged_tasks(corpus)
        self.steps: list[Step] = []
        self.refit: Refit | None = None

    async def play(self, home: Path, settings: Settings, *, with_refit: bool) -> None:
        from karen_learner.cli.render_simulation import header, step_lines
        from karen_learner.factory import create_autonomous_learner
        from karen_learner.simulation import refit, simulate

        self._show(header(self._tasks))
        async with create_autonomous_learner(home, settings=settings) as learner:
            steps = simulate(learner, TENANT, self._corpus, self._scenario)
            async for step in watched(self._output, learner, steps):
                self.steps.append(step)
                for line in step_lines(step, self._tasks):
                    self._show(line)
            if with_refit:
                self._output.note("training from scratch on all that was curated ...", style="dim")
                self.refit = await refit(learner, TENANT, self._corpus.test, folder=home / "refit")

    def _show(self, part: RenderableType) -> None:
        """A part of the result that comes while the run goes on; with `--json` it all comes at the end."""
        if not self._output.json:
            self._output.result(None, part)

    def conclude(self, home: Path | None, plot: Path | None) -> None:
        from karen_learner.cli.render import text
        from karen_learner.cli.render_simulation import chart, summary

        shown = [text(""), chart(self.steps, self.refit), text(""), summary(self.steps, self.refit)]
        places = [text(f"{what}: {place}") for what, place in (("home", home), ("plot", plot)) if place]
        self._output.result(self._document(), *shown, *places)

    def save(self, path: Path) -> None:
        """The whole result as a file."""
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


def judged_tasks(corpus: Corpus) -> tuple[Task, ...]:
    """The tasks for which the test texts have labels."""
    found = {task for example in corpus.test for task in example.tasks}
    return tuple(sorted(found, key=("intent", "sentiment", "entities").index))


async def watched(
    output: Output, learner: AutonomousLearner, steps: AsyncIterator[Step]
) -> AsyncIterator[Step]:
    """The same steps; what the learner does on the way to each is seen on a terminal."""
    while True:
        with learning_progress(output) as bars:
            forget = learner.events.subscribe(bars)
            try:
                step = await anext(steps, None)
                await learner.events.drain()
            finally:
                forget()
        if step is None:
            return
        yield step


def register(app: typer.Typer) -> None:
    app.command()(simulate)
