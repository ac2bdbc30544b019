"""`simulate`: learning cycles on labelled texts with simulated users."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import FileOptions, argument, option, with_common_options
from karen_learner.cli.output import Output
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from karen_learner.curation.data_checks import Leaks
    from karen_learner.learner import AutonomousLearner
    from karen_learner.simulation import Corpus, Refit, Scenario, Step

TENANT = "simulation"


@dataclass(frozen=True, kw_only=True)
class ScenarioOptions:
    """Options of the simulated turns and cycles."""

    shots: Annotated[int, typer.Option(help="Gold texts of each label for the bootstrap.", min=2)] = 10
    correction_rate: Annotated[
        float, typer.Option(help="Share of wrong answers that users correct.", min=0, max=1)
    ] = 0.3
    rating_rate: Annotated[float, typer.Option(help="Share of answers that users rate.", min=0, max=1)] = 0.3
    noise: Annotated[float, typer.Option(help="Share of feedback that is wrong.", min=0, max=1)] = 0.0
    users: Annotated[int, typer.Option(help="Number of users, of unequal activity.", min=1)] = 50
    cycles: Annotated[
        int | None,
        typer.Option(help="Number of learning cycles. Default: 10.", min=1, show_default=False),
    ] = None
    every: Annotated[
        int | None,
        typer.Option(help="Turns per cycle, instead of --cycles.", min=1, show_default=False),
    ] = None
    limit: Annotated[int | None, typer.Option(help="Maximum number of turns.", min=1, show_default=False)] = (
        None
    )
    mode: Annotated[
        Literal["auto", "incremental", "full"], typer.Option(help="Training mode of the cycles.")
    ] = "auto"
    seed: Annotated[int, typer.Option(help="Seed of the shots, the order and the feedback.")] = 0

    def scenario(self) -> Scenario:
        """The scenario with these options. Raises typer.BadParameter."""
        from karen_learner.simulation import FeedbackRates, Scenario

        if self.cycles is not None and self.every is not None:
            raise typer.BadParameter("--cycles and --every exclude each other: give one")
        values = asdict(self)
        rates = FeedbackRates(**{name: values.pop(name) for name in FeedbackRates.model_fields})
        return Scenario(rates=rates, **values)


@with_common_options
async def simulate(
    run: Context,
    train: Annotated[
        Path, argument("TRAIN", "Labelled texts, or a folder with train.jsonl and test.jsonl.", exists=True)
    ],
    test: Annotated[
        Path | None, argument("TEST", "Test texts; never used for training.", exists=True, dir_okay=False)
    ] = None,
    *,
    sent: ScenarioOptions,
    keep_home: Annotated[
        Path | None, option("DIR", "Keep the home in this new folder.", file_okay=False)
    ] = None,
    plot: Annotated[Path | None, option("FILE", "Write a chart (.png, .svg, .pdf).")] = None,
    save: Annotated[
        Path | None, option("FILE", "Write the JSON document to this file too.", dir_okay=False)
    ] = None,
    refit: Annotated[bool, typer.Option(help="Train from scratch at the end, for comparison.")] = True,
    reading: FileOptions,
) -> int:
    """Simulate users on labelled texts: bootstrap from a few, send the others as turns.

    The live model answers each text. Users correct and rate some answers.
    After each cycle, the test texts measure the live model.
    --config and --set give the settings. The home is temporary.
    """
    from karen_learner import simulation
    from karen_learner.cli.render_simulation import chart, summary
    from karen_learner.simulation.plot import draw, require_plotting

    scenario = sent.scenario()
    if plot is not None:
        require_plotting(plot)
    tests = None if test is None else reading.corpus_file(test)
    corpus = simulation.read_corpus(reading.corpus_file(train), tests)
    found_leaks = corpus.leaks()
    for note in (*corpus.notes, *found_leaks.sentences()):
        run.output.note(note, style="yellow")
    steps, reference = await _run(run, corpus, scenario, keep_home=keep_home, refit=refit)
    document = _document(scenario, corpus, found_leaks, steps, reference)
    if plot is not None:
        draw(steps, reference, plot)
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    places = [f"{name}: {place}" for name, place in (("home", keep_home), ("plot", plot)) if place]
    run.output.result(document, "", chart(steps, reference), "", summary(steps, reference), *places)
    return ExitCode.OK


async def _run(
    run: Context, corpus: Corpus, scenario: Scenario, *, keep_home: Path | None, refit: bool
) -> tuple[list[Step], Refit | None]:
    """The steps of a simulation, and a training from scratch after them."""
    from karen_learner import simulation
    from karen_learner.cli.render_simulation import step_lines
    from karen_learner.learner import create_autonomous_learner
    from karen_learner.simulation.homes import fresh_home, isolated

    steps: list[Step] = []
    settings = isolated(run.settings())
    with fresh_home(keep_home) as home:
        async with create_autonomous_learner(home, settings=settings) as learner:
            found = simulation.simulate(learner, TENANT, corpus, scenario)
            async for step in with_progress(run.output, learner, found):
                run.output.show(*step_lines(step))
                steps.append(step)
            if not refit:
                return steps, None
            run.output.note("training from scratch on all curated examples ...", style="dim")
            return steps, await simulation.refit(learner, TENANT, corpus.test, folder=home / "refit")


def _document(
    scenario: Scenario, corpus: Corpus, leaks: Leaks, steps: Sequence[Step], refit: Refit | None
) -> dict[str, object]:
    first, last = steps[0].scores.accuracy, steps[-1].scores.accuracy
    refitted = refit.scores.accuracy if refit else None
    return {
        "scenario": scenario.to_dict(),
        "corpus": {"train": len(corpus.train), "test": len(corpus.test)},
        "leaks": {"same": len(leaks.same), "near": len(leaks.near), "unknown_labels": leaks.unknown},
        "steps": [step.to_dict() for step in steps],
        "refit": refit.to_dict() if refit else None,
        "first": first,
        "last": last,
        "gain": None if first is None or last is None else last - first,
        "against_refit": None if last is None or refitted is None else last - refitted,
    }


async def with_progress(
    output: Output, learner: AutonomousLearner, steps: AsyncIterator[Step]
) -> AsyncIterator[Step]:
    """The same steps, with progress bars of the learner during each."""
    from karen_learner.cli.progress import learning_progress

    while True:
        async with learning_progress(output, learner):
            step = await anext(steps, None)
        if step is None:
            return
        yield step
