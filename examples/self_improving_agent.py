"""A self-improving agent: it learns strategies by domain and reactions to errors, and mends itself.

    python examples/self_improving_agent.py [--tasks 900] [--seed 1]

In a simulated world, each strategy has its own success rate in each domain. Each error type has its own
remedy. An agent that is fixed on one strategy and always retries is compared with one that follows the
recommendations. The time of the world is simulated, so the script takes seconds.
"""

import argparse
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from karen_learner.blocking import AutomatedLearningSystem

RATES = {
    "billing": {"llm": 0.55, "spacy": 0.85, "template": 0.35},
    "travel": {"llm": 0.80, "spacy": 0.50, "template": 0.25},
    "greetings": {"llm": 0.60, "spacy": 0.65, "template": 0.90},
}
ERRORS = {
    "timeout": {"retry": 0.10, "back_off": 0.30, "switch": 0.85},
    "rate_limit": {"retry": 0.05, "back_off": 0.90, "switch": 0.35},
}
"""The success rate of each reaction to an error."""
SETTINGS = {"training_frequency": 600, "performance_threshold": 0.5, "consecutive_failures_threshold": 6}
MAX_REACTIONS = 2


class WorldClock:
    """The time of the simulated world."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Troubleshooter:
    """The host's own troubleshooter: the system calls it if too few attempts succeed."""

    def __init__(self) -> None:
        self.calls = 0

    def diagnose_and_fix(self) -> None:
        self.calls += 1


@dataclass
class Agent:
    """Does tasks. Without a `system` it always uses the language model, and retries after errors."""

    rng: random.Random
    clock: WorldClock
    system: AutomatedLearningSystem | None = None
    failed: Counter[str] = field(default_factory=Counter)
    results: list[bool] = field(default_factory=list)

    def do(self, number: int) -> None:
        domain = self.rng.choice(sorted(RATES))
        choice = self.system.recommend(domain) if self.system is not None else None
        strategy = choice.strategy if choice is not None else "llm"
        success = self.rng.random() < RATES[domain][strategy]
        error = None if success else self.rng.choice(sorted(ERRORS))
        if self.system is not None and choice is not None:
            self.system.record_attempt(
                success, strategy, domain, error, choice_id=choice.choice_id, task_id=f"task {number}"
            )
        for _ in range(MAX_REACTIONS):
            if error is None:
                break
            success, strategy = self.react(number, domain, strategy, error)
            error = None if success else error
        self.clock.pass_by(30.0)
        self.results.append(success)
        if error is not None:
            self.failed[error] += 1

    def react(self, number: int, domain: str, strategy: str, error: str) -> tuple[bool, str]:
        """The result of a reaction to an error, and the strategy of the attempt."""
        action = self.system.react(error, domain) if self.system is not None else "retry"
        if action == "give_up":
            return False, strategy
        if action == "back_off":
            self.clock.pass_by(5.0)
        if action == "switch":
            strategy = self.rng.choice([one for one in RATES[domain] if one != strategy])
        success = self.rng.random() < ERRORS[error][action]
        if self.system is not None:
            failure = None if success else error
            self.system.record_attempt(success, strategy, domain, failure, task_id=f"task {number}")
        return success, strategy

    def rate(self) -> float:
        """The success rate of the second half of the tasks."""
        newer = self.results[len(self.results) // 2 :]
        return sum(newer) / len(newer)


def show(system: AutomatedLearningSystem) -> None:
    for domain in RATES:
        best = system.strategies(domain)[0]
        print(f"{domain}: {best.strategy} ({best.expected:.0%}, {best.low:.0%} to {best.high:.0%})")
    analysis = system.analyze_performance()
    print(f"current success rate {analysis.current_success_rate:.0%}, trend {analysis.performance_trend}")
    for pattern in analysis.error_patterns[:4]:
        print(f"  rule: {pattern.rule}")
    for reaction in analysis.reactions[-3:]:
        print(f"  reaction: {reaction.act}, because of {reaction.because}")


def main(tasks: int, seed: int) -> None:
    fixed = Agent(random.Random(seed), WorldClock())
    for number in range(tasks):
        fixed.do(number)
    clock, troubleshooter = WorldClock(), Troubleshooter()
    with AutomatedLearningSystem(
        settings=SETTINGS, troubleshooter=troubleshooter, clock=clock, seed=seed
    ) as system:
        for domain, rates in RATES.items():
            for strategy in rates:
                system.record_attempt(True, strategy, domain)
        agent = Agent(random.Random(seed), clock, system)
        for number in range(tasks):
            agent.do(number)
            if number % 20 == 19:
                system.tick()
        show(system)
    print(f"fixed agent: {fixed.rate():.0%} of the tasks succeed; errors left: {dict(fixed.failed)}")
    print(f"learning agent: {agent.rate():.0%} of the tasks succeed; errors left: {dict(agent.failed)}")
    print(f"gain {agent.rate() / fixed.rate() - 1:.0%}; calls of the troubleshooter: {troubleshooter.calls}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=900)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    main(arguments.tasks, arguments.seed)
