"""`demo`: learning cycles on the shipped corpus, in about a minute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from karen_learner.cli.commands.simulate import with_progress
from karen_learner.cli.context import Context
from karen_learner.cli.options import with_common_options
from karen_learner.cli.output import Output, text
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import LabelledText
    from karen_learner.simulation import Attack, Corpus, Exchange, Scenario, Step

TENANT = "halo"
DEMO_HOME = Path("demo-home")
SHOTS = 12
TURNS = 900
CYCLES = 3
ATTACKERS = 20
SHOWN_PER_CYCLE = 3
SEED = 1
PASSED = "Accuracy rose. The poisoned batch was rejected. The live model is unchanged."

DEMO_SETTINGS = """\
# Settings of the demo. All others have their defaults.

[learning]
min_data_threshold = 30
max_training_examples = 400
replay_examples = 800

[training]
# 1 / K: three folds, so that a cycle trains three shadows only
validation_split = 0.3
"""


@with_common_options
async def demo(run: Context) -> int:
    """Run a demonstration: a first model, turns with feedback, then a poisoned batch.

    The home is ./demo-home, or --home. A home of an earlier demo is replaced.

    Exit code 0: accuracy rose, the gate rejected the poisoned batch,
    and the live model is unchanged.
    """
    from karen_learner.learner import create_autonomous_learner
    from karen_learner.simulation import read_corpus, shipped_corpus
    from karen_learner.simulation.homes import isolated, make_demo_home

    home = run.home_given = run.home_given or DEMO_HOME
    corpus = read_corpus(shipped_corpus())
    make_demo_home(home, DEMO_SETTINGS)
    started = perf_counter()
    async with create_autonomous_learner(home, settings=isolated(run.settings())) as learner:
        steps = await _learn(run.output, learner, corpus)
        attack = await _attack(run.output, learner, corpus)
    return _summarize(run, steps, attack, perf_counter() - started)


async def _learn(output: Output, learner: AutonomousLearner, corpus: Corpus) -> list[Step]:
    from karen_learner.cli.render_simulation import exchange_lines, step_lines
    from karen_learner.simulation import simulate

    test = len(corpus.test)
    plan = (
        f"1. A first model from {SHOTS} examples of each intent of a phone company's customers.",
        f"   Then {TURNS} turns in {CYCLES} learning cycles. {test} test texts measure the accuracy.",
    )
    output.show(*(text(line, "bold") for line in plan), "")
    steps: list[Step] = []
    exchanges: list[Exchange] = []
    found = simulate(learner, TENANT, corpus, demo_scenario(), on_exchange=exchanges.append)
    async for step in with_progress(output, learner, found):
        for exchange in informative(exchanges, SHOWN_PER_CYCLE):
            output.show(*exchange_lines(exchange))
        exchanges.clear()
        output.show(*step_lines(step))
        steps.append(step)
    return steps


async def _attack(output: Output, learner: AutonomousLearner, corpus: Corpus) -> Attack:
    from karen_learner.cli.progress import learning_progress
    from karen_learner.simulation import attack

    texts = unused(corpus, demo_scenario())
    plan = f"2. {ATTACKERS} users send {len(texts)} corrections with wrong labels."
    output.show("", text(plan, "bold"), "")
    async with learning_progress(output, learner):
        return await attack(
            learner, TENANT, texts, corpus.test, labels=corpus.labels, users=ATTACKERS, seed=SEED
        )


def _summarize(run: Context, steps: Sequence[Step], attack: Attack, seconds: float) -> int:
    """Print the summary. Exit code 1 if a check failed."""
    from karen_learner.cli.render_simulation import attack_facts, chart, summary

    failed = failed_checks(steps, attack)
    document = {
        "home": str(run.home),
        "tenant": TENANT,
        "steps": [step.to_dict() for step in steps],
        "attack": attack.to_dict(),
        "seconds": seconds,
        "failed_checks": failed,
    }
    run.output.result(
        document,
        attack_facts(attack), "",
        text("3. Summary", "bold"), "",
        chart(steps, None), "", summary(steps, None), "",
        *([text(f"FAILED: {check}", "bold red") for check in failed] or [text(PASSED, "bold green")]),
        f"{seconds:.0f} s in total. The home is {run.home}. Next commands:",
        *(f"  {line}" for line in next_commands(run.home)),
        "The dashboard shows all this in a browser:",
        f"  {dashboard_command(run.home)}",
    )  # fmt: skip
    return ExitCode.ERROR if failed else ExitCode.OK


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
    corrected = [one for one in exchanges if one.is_corrected and not _is_rated_good(one)]
    rated_good = [one for one in exchanges if _is_rated_good(one) and not one.is_corrected]
    return [*corrected[: limit - 1], *rated_good[:1]]


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


def dashboard_command(home: Path) -> str:
    """The command that opens the dashboard on the home."""
    from karen_learner.cli.tables import command_line

    return f"{command_line(home, 'serve')}    # then open http://127.0.0.1:8000/dashboard"


def next_commands(home: Path) -> list[str]:
    """Commands for a look at the home."""
    from karen_learner.cli.tables import command_line

    return [
        command_line(home, "status", TENANT),
        command_line(home, "history", TENANT),
        command_line(home, "analyze", TENANT, "my internet has been down since monday"),
        command_line(home, "rollback", TENANT),
    ]
