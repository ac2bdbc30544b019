"""`karen-learner demo`: the main job before one's eyes, on the shipped corpus, in a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import typer
from rich.console import RenderableType

from karen_learner.cli.exits import ExitCode
from karen_learner.cli.invocation import Invocation
from karen_learner.cli.options import with_common_options
from karen_learner.cli.output import Output
from karen_learner.cli.progress import learning_progress
from karen_learner.cli.render import command_line, text
from karen_learner.cli.simulate import judged_tasks, watched

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import LabelledText
    from karen_learner.settings import Settings
    from karen_learner.simulation import Attack, Corpus, Exchange, Scenario, Step

TENANT = "halo"
DEMO_HOME = Path("demo-home")
SHOTS = 12
TURNS = 900
CYCLES = 3
ATTACKERS = 20
SHOWN_PER_CYCLE = 3
SEED = 1

DEMO_SETTINGS = """\
# The settings of the demo. What is not here has the default that `karen-learner settings` would tell.

[learning]
min_data_threshold = 30
max_training_examples = 400
replay_examples = 800

[training]
# with so few gold examples, a larger share of them judges the candidates
validation_split = 0.3

[gate]
# it would take longer than everything else
max_cross_validated = 0
"""


@with_common_options
def demo(invocation: Invocation) -> int:
    """See it learn: a model from few examples, conversations with feedback, then a poisoned batch.

    Everything is kept in ./demo-home (or --home), to look around in afterwards; one that an earlier demo
    made is replaced. Exits with 0 only if accuracy rose, the poison was refused and the live model was
    left untouched by it.
    """
    from karen_learner.simulation import read_corpus, shipped_corpus
    from karen_learner.simulation.homes import isolated, make_demo_home

    home = invocation.home_given or DEMO_HOME
    corpus = read_corpus(shipped_corpus())
    make_demo_home(home, DEMO_SETTINGS)
    invocation.home_given = home
    settings = isolated(invocation.settings())
    play = _Demo(invocation.output, corpus, home)
    asyncio.run(play.run(settings))
    return play.conclude()


class _Demo:
    """One demonstration: three acts and what is to be said of them."""

    def __init__(self, output: Output, corpus: Corpus, home: Path) -> None:
        self._output = output
        self._corpus = corpus
        self._home = home
        self._tasks = judged_tasks(corpus)
        self._exchanges: list[Exchange] = []
        self._started = perf_counter()
        self._seconds = 0.0
        self.steps: list[Step] = []
        self.attack: Attack | None = None

    async def run(self, settings: Settings) -> None:
        from karen_learner.factory import create_autonomous_learner

        async with create_autonomous_learner(self._home, settings=settings) as learner:
            await self._learn(learner)
            await self._withstand(learner)
        self._seconds = perf_counter() - self._started

    async def _learn(self, learner: AutonomousLearner) -> None:
        from karen_learner.cli.render_simulation import header, step_lines
        from karen_learner.simulation import simulate

        test = len(self._corpus.test)
        self._say(
            f"1. A model from {SHOTS} examples of each intent that customers of a phone company have.",
            f"   Then {TURNS} conversations in {CYCLES} learning cycles. {test} other texts are the judges.",
            "",
        )
        self._show(header(self._tasks))
        steps = simulate(learner, TENANT, self._corpus, demo_scenario(), on_exchange=self._exchanges.append)
        async for step in watched(self._output, learner, steps):
            self.steps.append(step)
            self._show_exchanges()
            for line in step_lines(step, self._tasks):
                self._show(line)

    async def _withstand(self, learner: AutonomousLearner) -> None:
        from karen_learner.simulation import attack

        texts = unused(self._corpus, demo_scenario())
        self._say(
            "",
            f"2. {ATTACKERS} users now claim in {len(texts)} corrections that every label is another one.",
            "",
        )
        with learning_progress(self._output) as bars:
            forget = learner.events.subscribe(bars)
            try:
                self.attack = await attack(
                    learner, TENANT, texts, self._corpus.test,
                    labels=self._corpus.labels, users=ATTACKERS, seed=SEED,
                )  # fmt: skip
                await learner.events.drain()
            finally:
                forget()

    def _show_exchanges(self) -> None:
        from karen_learner.cli.render_simulation import exchange_lines

        for exchange in telling(self._exchanges, SHOWN_PER_CYCLE):
            for line in exchange_lines(exchange):
                self._show(line)
        self._exchanges.clear()

    def _say(self, *lines: str) -> None:
        for line in lines:
            self._show(text(line, "bold"))

    def _show(self, part: RenderableType) -> None:
        if not self._output.json:
            self._output.result(None, part)

    def conclude(self) -> int:
        """Tell what it came to; the exit code says whether it was what the demo promises."""
        from karen_learner.cli.render_simulation import attack_facts, chart, summary

        assert self.attack is not None  # noqa: S101 - `run` has been through
        broken = broken_promises(self.steps, self.attack)
        self._output.result(
            self._document(broken),
            attack_facts(self.attack), text(""),
            text("3. What it came to", "bold"), text(""),
            chart(self.steps, None), text(""), summary(self.steps, None), text(""),
            *self._ending(broken),
        )  # fmt: skip
        return ExitCode.ERROR if broken else ExitCode.OK

    def _document(self, broken: Sequence[str]) -> dict[str, Any]:
        assert self.attack is not None  # noqa: S101 - `run` has been through
        return {
            "home": str(self._home),
            "tenant": TENANT,
            "steps": [step.to_dict() for step in self.steps],
            "attack": self.attack.to_dict(),
            "seconds": self._seconds,
            "broken_promises": list(broken),
        }

    def _ending(self, broken: Sequence[str]) -> list[RenderableType]:
        verdict = [text(f"NOT AS PROMISED: {promise}", "bold red") for promise in broken] or [
            text("It learned, the poison was refused, and the live model is what it was.", "bold green")
        ]
        places = text(f"{self._seconds:.0f} s in all; everything lies in {self._home}. To look around:")
        return [*verdict, places, *(text(f"  {line}") for line in next_commands(self._home))]


def demo_scenario() -> Scenario:
    """Users who are busier than in life, so that little time shows much."""
    from karen_learner.simulation import Habits, Scenario

    habits = Habits(correction_rate=0.6, rating_rate=0.5, noise=0.05)
    return Scenario(shots=SHOTS, habits=habits, users=40, cycles=CYCLES, limit=TURNS, seed=SEED)


def unused(corpus: Corpus, scenario: Scenario) -> list[LabelledText]:
    """The training texts that the conversations of the scenario leave over."""
    from karen_learner.simulation.stream import divide

    division = divide(corpus.train, scenario)
    spoken = {example.text for part in (division.gold, *division.cycles) for example in part}
    return [example for example in corpus.train if example.text not in spoken]


def telling(exchanges: Sequence[Exchange], limit: int) -> list[Exchange]:
    """A few exchanges that show what feedback is: corrections, and a good rating as the last one."""
    corrected = [one for one in exchanges if _corrects(one) and not _praises(one)]
    praised = [one for one in exchanges if _praises(one) and not _corrects(one)]
    return [*corrected[: limit - 1], *praised[:1]]


def _corrects(exchange: Exchange) -> bool:
    return any(key.startswith("corrected") for key in exchange.feedback or ())


def _praises(exchange: Exchange) -> bool:
    rating: float = (exchange.feedback or {}).get("satisfaction_score", 0.0)
    return rating >= 0.5


def broken_promises(steps: Sequence[Step], attack: Attack) -> list[str]:
    """What the demo promises and did not keep, in words."""
    first, last = steps[0].scores.accuracy or 0.0, steps[-1].scores.accuracy or 0.0
    promises = {
        f"accuracy did not rise: {first:.3f} -> {last:.3f}": last > first,
        f"the poisoned cycle was not rejected but {attack.result.status}": attack.refused,
        "the files of the live model were changed by the attack": attack.untouched,
        "the live model answers differently since the attack": attack.scores_before == attack.scores_after,
    }
    return [words for words, kept in promises.items() if not kept]


def next_commands(home: Path) -> list[str]:
    """What to type to look around."""
    return [
        command_line(home, "status", TENANT),
        command_line(home, "history", TENANT),
        command_line(home, "analyze", TENANT, "my internet has been down since monday"),
        command_line(home, "rollback", TENANT),
    ]


def register(app: typer.Typer) -> None:
    app.command()(demo)
