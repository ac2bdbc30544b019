"""`karen-learner simulate`: the main job on labelled texts that stand in for users."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from karen_learner.cli.arguments import Mode
from karen_learner.cli.exits import ExitCode
from karen_learner.cli.invocation import Invocation
from karen_learner.cli.options import with_common_options
from karen_learner.cli.output import Output
from karen_learner.cli.progress import learning_progress

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import Task
    from karen_learner.settings import Settings
    from karen_learner.simulation import Corpus, Refit, Scenario, Step

TENANT = "simulation"


@with_common_options
def simulate(
    invocation: Invocation,
    train: Annotated[
        Path,
        typer.Argument(
            help="Labelled texts (.jsonl), or a folder with train.jsonl and test.jsonl.", exists=True
        ),
    ],
    test: Annotated[
        Path | None,
        typer.Argument(help="The texts to judge by; never learned from.", exists=True, dir_okay=False),
    ] = None,
    shots: Annotated[int, typer.Option(help="Gold texts of each label for the bootstrap.", min=2)] = 10,
    correction_rate: Annotated[
        float, typer.Option(help="Share of the wrong answers that users correct.", min=0, max=1)
    ] = 0.3,
    rating_rate: Annotated[
        float, typer.Option(help="Share of the answers that users rate.", min=0, max=1)
    ] = 0.3,
    noise: Annotated[float, typer.Option(help="Share of the feedback that is mistaken.", min=0, max=1)] = 0.0,
    users: Annotated[int, typer.Option(help="How many users speak, of unequal activity.", min=1)] = 50,
    cycles: Annotated[
        int | None,
        typer.Option(help="Learning cycles over the stream. Default: 10.", min=1, show_default=False),
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(help="A cycle every so many turns, instead of --cycles.", min=1, show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many turns.", min=1, show_default=False)
    ] = None,
    mode: Annotated[Mode, typer.Option(help="How cycles train.")] = Mode.auto,
    seed: Annotated[int, typer.Option(help="Draws the shots, the order and what users do.")] = 0,
    keep_home: Annotated[
        Path | None,
        typer.Option(
            help="Keep everything in this new folder.", metavar="DIR", file_okay=False, show_default=False
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw a picture (.png, .svg, .pdf).", metavar="FILE", show_default=False),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Write what --json shows to a file as well.",
            metavar="FILE",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    refit: Annotated[bool, typer.Option(help="Compare with training from scratch at the end.")] = True,
) -> int:
    """Let labelled texts stand in for users: bootstrap from a few, the others arrive as conversations.

    The live model answers each text; users correct and rate some answers; cycles run; the test file,
    which is used for nothing else, judges the live model after each. Settings are taken from --config
    and --set; everything is stored in a temporary home.
    """
    from karen_learner.simulation import Habits, Scenario, read_corpus
    from karen_learner.simulation.homes import fresh_home, isolated
    from karen_learner.simulation.plot import draw, require_plotting

    if cycles is not None and every is not None:
        raise typer.BadParameter("give --cycles or --every, not both")
    if plot is not None:
        require_plotting(plot)
    scenario = Scenario(
        shots=shots, habits=Habits(correction_rate=correction_rate, rating_rate=rating_rate, noise=noise),
        users=users, cycles=cycles, every=every, limit=limit, mode=mode.value, seed=seed,
    )  # fmt: skip
    corpus = read_corpus(train, test)
    settings = isolated(invocation.settings())
    with fresh_home(keep_home) as home:
        run = _Run(invocation.output, corpus, scenario)
        asyncio.run(run.play(home, settings, with_refit=refit))
    if plot is not None:
        draw(run.steps, run.refit, plot)
    if save is not None:
        run.save(save)
    run.conclude(keep_home, plot)
    return ExitCode.OK


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
            finally:
                forget()
        if step is None:
            return
        yield step


def register(app: typer.Typer) -> None:
    app.command()(simulate)
