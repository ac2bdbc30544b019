"""`demo`: learning cycles on the shipped corpus, in about a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from karen_learner.cli.commands.simulate import evaluated_tasks, with_progress
from karen_learner.cli.context import Context
from karen_learner.cli.options import with_common_options
from karen_learner.cli.output import Output
from karen_learner.cli.progress import learning_progress
from karen_learner.cli.render import command_line, text
from karen_learner.errors import ExitCode

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
# Settings of the demo. All others have their defaults.

[learning]
min_data_threshold = 30
max_training_examples = 400
replay_examples = 800

[training]
# few gold examples: a larger share is held out
validation_split = 0.3

[gate]
# cross-validation would take most of the time
max_cross_validated = 0
"""


@with_common_options
def demo(context: Context) -> int:
    """Run a demonstration: a first model, turns with feedback, then a poisoned batch.

    The home is ./demo-home, or --home. A home of an earlier demo is replaced.

    Exit code 0: accuracy rose, the gate rejected the poisoned batch,
    and the live model is unchanged.
    """
    from karen_learner.simulation import read_corpus, shipped_corpus
    from karen_learner.simulation.homes import isolated, make_demo_home

    home = context.home_given or DEMO_HOME
    corpus = read_corpus(shipped_corpus())
    make_demo_home(home, DEMO_SETTINGS)
    context.home_given = home
    settings = isolated(context.settings())
    run = _Demo(context.output, corpus, home)
    asyncio.run(run.execute(settings))
    return run.show_summary()


class _Demo:
    """One demonstration and its output."""

    def __init__(self, output: Output, corpus: Corpus, home: Path) -> None:
        self._output = output
        self._corpus = corpus
        self._home = home
        self._tasks = evaluated_tasks(corpus)
        self._exchanges: list[Exchange] = []
        self._started = perf_counter()
        self._seconds = 0.0
        self.steps: list[Step] = []
        self.attack: Attack | None = None

    async def execute(self, settings: Settings) -> None:
        from karen_learner.factory import create_autonomous_learner

        async with create_autonomous_learner(self._home, settings=settings) as learner:
            await self._learn(learner)
            await self._attack(learner)
        self._seconds = perf_counter() - self._started

    async def _learn(self, learner: AutonomousLearner) -> None:
        from karen_learner.cli.render_simulation import header, step_lines
        from karen_learner.simulation import simulate

        test = len(self._corpus.test)
        self._print_lines(
            f"1. A first model from {SHOTS} examples of each intent of a phone company's customers.",
            f"   Then {TURNS} turns in {CYCLES} learning cycles. {test} test texts measure the accuracy.",
            "",
        )
        self._show(header(self._tasks))
        steps = simulate(learner, TENANT, self._corpus, demo_scenario(), on_exchange=self._exchanges.append)
        async for step in with_progress(self._output, learner, steps):
            self.steps.append(step)
            self._show_exchanges()
            for line in step_lines(step, self._tasks):
                self._show(line)

    async def _attack(self, learner: AutonomousLearner) -> None:
        from karen_learner.simulation import attack

        texts = unused(self._corpus, demo_scenario())
        self._print_lines(
            "",
            f"2. {ATTACKERS} users send {len(texts)} corrections with wrong labels.",
            "",
        )
        async with learning_progress(self._output, learner):
            self.attack = await attack(
                learner, TENANT, texts, self._corpus.test,
                labels=self._corpus.labels, users=ATTACKERS, seed=SEED,
            )  # fmt: skip

    def _show_exchanges(self) -> None:
        from karen_learner.cli.render_simulation import exchange_lines

        for exchange in informative(self._exchanges, SHOWN_PER_CYCLE):
            for line in exchange_lines(exchange):
                self._show(line)
        self._exchanges.clear()

    def _print_lines(self, *lines: str) -> None:
        for line in lines:
            self._show(text(line, "bold"))

    def _show(self, part: RenderableType) -> None:
        if not self._output.json:
            self._output.result(None, part)

    def show_summary(self) -> int:
        """Print the summary. Exit code 1 if a check failed."""
        from karen_learner.cli.render_simulation import attack_facts, chart, summary

        assert self.attack is not None  # noqa: S101 - set by `execute`
        failed = failed_checks(self.steps, self.attack)
        self._output.result(
            self._document(failed),
            attack_facts(self.attack), text(""),
            text("3. Summary", "bold"), text(""),
            chart(self.steps, None), text(""), summary(self.steps, None), text(""),
            *self._ending(failed),
        )  # fmt: skip
        return ExitCode.ERROR if failed else ExitCode.OK

    def _document(self, failed: Sequence[str]) -> dict[str, Any]:
        assert self.attack is not None  # noqa: S101 - set by `execute`
        return {
            "home": str(self._home),
            "tenant": TENANT,
            "steps": [step.to_dict() for step in self.steps],
            "attack": self.attack.to_dict(),
            "seconds": self._seconds,
            "failed_checks": list(failed),
        }

    def _ending(self, failed: Sequence[str]) -> list[RenderableType]:
        verdict = [text(f"FAILED: {check}", "bold red") for check in failed] or [
            text(
                "Accuracy rose. The poisoned batch was rejected. The live model is unchanged.",
                "bold green",
            )
        ]
        places = text(f"{self._seconds:.0f} s in total. The home is {self._home}. Next commands:")
        return [*verdict, places, *(text(f"  {line}") for line in next_commands(self._home))]


def demo_scenario() -> Scenario:
    """A scenario with more feedback than usual, to keep the demonstration short."""
    from karen_learner.simulation import FeedbackRates, Scenario

    rates = FeedbackRates(correction_rate=0.6, rating_rate=0.5, noise=0.05)
    return Scenario(shots=SHOTS, rates=rates, users=40, cycles=CYCLES, limit=TURNS, seed=SEED)


def unused(corpus: Corpus, scenario: Scenario) -> list[LabelledText]:
    """Training texts outside the scenario."""
    from karen_learner.simulation.scenario import plan_stream

    plan = plan_stream(corpus.train, scenario)
    used = {example.text for part in (plan.gold, *plan.cycles) for example in part}
    return [example for example in corpus.train if example.text not in used]


def informative(exchanges: Sequence[Exchange], limit: int) -> list[Exchange]:
    """Up to `limit` exchanges: corrections, then one good rating."""
    corrected = [one for one in exchanges if _is_corrected(one) and not _is_rated_good(one)]
    rated_good = [one for one in exchanges if _is_rated_good(one) and not _is_corrected(one)]
    return [*corrected[: limit - 1], *rated_good[:1]]


def _is_corrected(exchange: Exchange) -> bool:
    return any(key.startswith("corrected") for key in exchange.feedback or ())


def _is_rated_good(exchange: Exchange) -> bool:
    rating: float = (exchange.feedback or {}).get("satisfaction_score", 0.0)
    return rating >= 0.5


def failed_checks(steps: Sequence[Step], attack: Attack) -> list[str]:
    """Failed checks of the demonstration."""
    first, last = steps[0].scores.accuracy or 0.0, steps[-1].scores.accuracy or 0.0
    checks = {
        f"accuracy did not rise: {first:.3f} -> {last:.3f}": last > first,
        f"the poisoned cycle was {attack.result.status}, not rejected": attack.rejected,
        "the attack changed the files of the live model": attack.unchanged,
        "the attack changed the answers of the live model": attack.scores_before == attack.scores_after,
    }
    return [name for name, passed in checks.items() if not passed]


def next_commands(home: Path) -> list[str]:
    """Commands for a look at the home."""
    return [
        command_line(home, "status", TENANT),
        command_line(home, "history", TENANT),
        command_line(home, "analyze", TENANT, "my internet has been down since monday"),
        command_line(home, "rollback", TENANT),
    ]
