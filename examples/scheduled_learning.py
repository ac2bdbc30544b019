"""A scheduled task: run a learning cycle for every tenant that is ready.

    python examples/scheduled_learning.py HOME [--every SECONDS] [--rounds N]

Run it in the process of the chat product or in another one. A lease allows one cycle per tenant at a time.
Other processes load a new champion automatically.
"""

import argparse
import asyncio
from pathlib import Path

from karen_learner import AutonomousLearner, create_autonomous_learner


async def learn_once(learner: AutonomousLearner) -> int:
    """Run one round over all tenants. Returns the number of improved models."""
    improved = 0
    for tenant_id in await learner.tenants():
        status = await learner.status(tenant_id)
        if not status.ready_to_learn:
            print(f"{tenant_id}: {status.advice}")
            continue
        result = await learner.trigger_learning_cycle(tenant_id, reason="scheduled")
        improved += result.model_improved
        print(f"{tenant_id}: {result.status} {result.model_version} {result.error_message or ''}".rstrip())
    return improved


async def main(home: Path, every_s: float, rounds: int | None) -> None:
    async with create_autonomous_learner(home) as learner:
        done = 0
        while rounds is None or done < rounds:
            improved = await learn_once(learner)
            print(f"round {done + 1}: {improved} improved")
            done += 1
            if rounds is None or done < rounds:
                await asyncio.sleep(every_s)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--every", type=float, default=3600.0)
    parser.add_argument("--rounds", type=int, default=None)
    options = parser.parse_args()
    asyncio.run(main(options.home, options.every, options.rounds))
