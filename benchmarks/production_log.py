"""Time and memory of the production log: import and analysis of many entries, with and without corrupt ones.

python benchmarks/production_log.py --entries 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from karen_learner.collection.turns import CharacterSanitizer
from karen_learner.improvement import AIAnalysisEngine, AnalysisConfig
from karen_learner.improvement.production_log import ProductionLog
from karen_learner.memory import open_store
from karen_learner.records.improvement import AnalysisResults
from karen_learner.settings import load_settings

TENANT = "acme"
NOW = datetime(2026, 11, 30, 9, 0, tzinfo=timezone.utc)
LOG_TYPES = ("ai_message", "routing", "lead_scoring", "follow_up", "pricing", "search")
CORRUPT = ('{"log_type": 7}', "no json", '{"log_type": "routing", "session_id": "s"}')


def lines(entries: int, corrupt: float, seed: int) -> Iterator[bytes]:
    """Entries of two weeks, and corrupt lines between them. The entries do not depend on the share."""
    values, faults = random.Random(seed), random.Random(seed + 1)
    for number in range(entries):
        person = f"user{int(values.expovariate(1 / 5_000))}"
        success = values.random() < 0.8
        made = {
            "entry_id": f"{number:08d}",
            "log_type": values.choice(LOG_TYPES),
            "session_id": f"{person}-{number % 7}",
            "timestamp": (NOW - timedelta(days=14) * values.random()).isoformat(),
            "lead_identifier": person,
            "input_data": {"text": "could you tell me when my order arrives " * 3},
            "output_data": {
                "template": f"template{values.randrange(12)}",
                "text": "it arrives tomorrow " * 4,
            },
            "decision_reasoning": {
                "method_used": values.choice(("template", "llm", "rules")),
                "confidence_level": values.random(),
                "processing_time": values.expovariate(2.0),
                "success": success,
            },
            "training_labels": {
                "quality_score": 100 * values.betavariate(6, 2),
                "success_indicator": success and values.random() < 0.9,
                "improvement_potential": 100 * values.random(),
            },
        }
        if faults.random() < corrupt:
            yield f"{faults.choice(CORRUPT)} {number}".encode()
        yield json.dumps(made).encode()


async def measure(home: Path, entries: int, corrupt: float) -> AnalysisResults:
    """Import and analyse; prints seconds and the highest memory."""
    settings = load_settings(environment={})
    async with open_store(home / "karen.db", settings.store, clock=lambda: NOW) as store:
        log = ProductionLog(
            store, settings.store, sanitizer=CharacterSanitizer(), clock=lambda: NOW - timedelta(hours=1)
        )
        started, cpu = time.perf_counter(), time.process_time()
        report = await log.import_lines(TENANT, lines(entries, corrupt, seed=0))
        print(f"{report.entries:,} lines, {report.corrupt:,} corrupt: imported in "
              f"{time.perf_counter() - started:.1f} s ({time.process_time() - cpu:.1f} s of CPU, "
              "with the making of the lines)")  # fmt: skip
    config = AnalysisConfig(home=home, tenant_id=TENANT)
    before = memory_mb()
    started, cpu = time.perf_counter(), time.process_time()
    async with AIAnalysisEngine(config, clock=lambda: NOW) as engine:
        results = await engine.analyze_weekly_performance()
    print(f"analysed in {time.perf_counter() - started:.1f} s ({time.process_time() - cpu:.1f} s of CPU), "
          f"highest memory {memory_mb():.0f} MB ({before:.0f} MB before)")  # fmt: skip
    print(results.data_quality.note or "no corrupt entries")
    return results


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    entries = parser.parse_args().entries
    found = []
    for corrupt in (0.0, 0.01):
        with tempfile.TemporaryDirectory() as folder:
            found.append(asyncio.run(measure(Path(folder), entries, corrupt)))
    clean, damaged = found
    same = clean.components == damaged.components and clean.trends == damaged.trends
    print(f"components and trends are {'the same' if same else 'DIFFERENT'} with 1 % of corrupt entries")


if __name__ == "__main__":
    main()
