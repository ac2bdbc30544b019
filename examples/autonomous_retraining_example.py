"""Autonomous retraining: a good phase, a degradation, a retraining that an alert requests, a manual one.

    python examples/autonomous_retraining_example.py [FOLDER]

Two agents answer. In the good phase both are right in 90 % of the cases. Then one of them, that most requests
go to, falls to 50 %, and all answers together to 65 %. The monitor raises an alert, and the updater learns
from the stored events which agent is better. Default FOLDER: a temporary folder.
"""

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from karen_learner.blocking import PerformanceMonitor, RealTimeModelUpdater, UpdateStrategy

DOMAIN = "support"
GOOD = {"fast-agent": 0.9, "careful-agent": 0.9}
DEGRADED = {"fast-agent": 0.5, "careful-agent": 0.9}
SHARE_OF_FAST = 0.62
"""The share of requests for the fast agent without a choice."""
RNG = random.Random(1)


def answer(
    monitor: PerformanceMonitor, updater: RealTimeModelUpdater, number: int, agent: str, rate: float
) -> bool:
    """One request: its outcome goes to the monitor, and as an event to the updater."""
    right = RNG.random() < rate
    monitor.record_agent_run(
        f"run-{number}", agent, "llm", "success", RNG.uniform(200, 900), tokens_used=120, cost=0.001,
        strategy=agent, domain=DOMAIN,
    )  # fmt: skip
    monitor.record_accuracy(agent, f"task-{number}", "answer", "answer" if right else "other", "user")
    updater.submit({"event_id": f"run-{number}", "agent_name": agent, "domain": DOMAIN, "success": right})
    return right


def phase(
    title: str,
    monitor: PerformanceMonitor,
    updater: RealTimeModelUpdater,
    rates: dict[str, float],
    requests: int,
    *,
    chosen: bool = False,
) -> None:
    """So many requests. With `chosen`, the updater chooses the agent."""
    first = int(monitor.get_stats()["recorded"])
    agents, right = Counter[str](), 0
    for number in range(first, first + requests):
        agent = "fast-agent" if RNG.random() < SHARE_OF_FAST else "careful-agent"
        if chosen:
            agent = updater.recommend(DOMAIN).strategy
        agents[agent] += 1
        right += answer(monitor, updater, number, agent, rates[agent])
    used = ", ".join(f"{name} {count}" for name, count in sorted(agents.items()))
    print(f"{title}: {right / requests:.0%} of {requests} answers are right ({used})")


def show_alerts(monitor: PerformanceMonitor) -> None:
    monitor.check()  # now; the monitor does so itself in intervals
    for alert in monitor.get_alerts():
        print(f"  alert ({alert.level}): {alert.message}")


def wait_for_retraining(updater: RealTimeModelUpdater) -> None:
    """The alert has requested it; it runs in the background."""
    while not updater.get_metrics().retrainings:
        time.sleep(0.01)
    result = updater.get_metrics().last_retraining or {}
    print(f"  autonomous retraining: {result['retrain_type']}, {result['events_processed']} events")


def show_results(monitor: PerformanceMonitor, updater: RealTimeModelUpdater) -> None:
    report, metrics = monitor.generate_report(), updater.get_metrics()
    print(f"health score {report.health_score:.0f} of 100; accuracy {report.metrics.avg_accuracy:.0%}")
    for name, measures in report.metrics.by_agent.items():
        print(f"  {name}: accuracy {measures.avg_accuracy:.0%}, p95 {measures.latency_p95_ms:.0f} ms")
    print(f"alerts: {len(monitor.get_alerts())}, retrainings: {metrics.retrainings}")
    print(f"events: {metrics.events_received} received, {metrics.event_buffer_size} in the buffer")
    for advice in report.recommendations:
        print(f"  advice: {advice}")


def main(folder: Path) -> None:
    updater = RealTimeModelUpdater(
        model_storage_path=folder, batch_size=10, batch_timeout_seconds=0.2,
        update_strategy=UpdateStrategy.SLIDING_WINDOW,
    )  # fmt: skip
    with updater:
        monitor = PerformanceMonitor(
            enable_auto_retraining=True, model_updater=updater, alert_thresholds={"accuracy_min": 0.75}
        )
        monitor.start()
        phase("good phase", monitor, updater, GOOD, 60)
        show_alerts(monitor)
        phase("degradation", monitor, updater, DEGRADED, 180)
        show_alerts(monitor)
        wait_for_retraining(updater)
        phase("after the autonomous retraining", monitor, updater, DEGRADED, 120, chosen=True)
        result = monitor.trigger_retraining("Manual trigger", force_full_retrain=True)
        print(f"manual retraining: {result.retrain_type}, {result.events_processed} events, {result.reason}")
        phase("after the manual retraining", monitor, updater, DEGRADED, 120, chosen=True)
        show_results(monitor, updater)
        monitor.stop()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
