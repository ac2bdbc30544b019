"""Events from Kafka while consumers are killed: each is counted once, none is lost.

    python benchmarks/events.py [--events 100000] [--kills 12]

The broker is the mock cluster of librdkafka, over real sockets, in the main process. One of 50 events comes
twice under one id, one of 100 is malformed. Two phases, each with a new topic and a new database:

1. one consumer process, without kills: the rate;
2. three consumer processes on one database. SIGKILL ends one of them at random moments, and another one takes
   its place. Each kill and each start rebalances the partitions.

Then the outcomes in the store must be exactly the distinct events. The dead-letter topic must have every
malformed message. Exit code 1 on any loss or any event that is counted twice. It needs the extra `kafka`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer

from karen_learner import RealTimeModelUpdater
from karen_learner.memory import open_store
from karen_learner.settings import load_settings

FAST = {"session.timeout.ms": 6_000, "heartbeat.interval.ms": 500}
DUPLICATES, MALFORMED = 50, 100
"""One of so many events."""
LIMIT_S = 900.0
STALLED_S = 120.0


def message(number: int) -> bytes:
    if number % MALFORMED == 7:
        return f"no event {number}".encode()
    known = number - 1 if number % DUPLICATES == 11 else number
    return json.dumps(
        {"event_id": f"e{known}", "agent_name": "llm", "success": known % 3 > 0}, separators=(",", ":")
    ).encode()


def expected(events: int) -> tuple[Counter[bool], int]:
    """Distinct events by success, and the number of malformed messages."""
    distinct, malformed = {}, 0
    for number in range(events):
        try:
            one = json.loads(message(number))
        except ValueError:
            malformed += 1
        else:
            distinct[one["event_id"]] = one["success"]
    return Counter(distinct.values()), malformed


# The consumer ------------------------------------------------------------------------------------


async def consume(servers: str, topic: str, database: Path) -> None:
    settings = load_settings(overrides={"stream": {"kafka": FAST}, "store.busy_timeout_s": 60.0})
    async with open_store(database, settings.store) as store:
        updater = RealTimeModelUpdater(
            servers, topic, store=store, batch_size=500, batch_timeout_seconds=0.5, settings=settings
        )
        async with updater:
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class Consumers:
    """Consumer processes of one topic and database."""

    def __init__(self, servers: str, topic: str, database: Path) -> None:
        self._words = [sys.executable, __file__, "--consumer", servers, topic, str(database)]
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self.running.append(subprocess.Popen(self._words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL))

    def kill(self, rng: random.Random) -> None:
        one = self.running.pop(rng.randrange(len(self.running)))
        one.send_signal(signal.SIGKILL)
        one.communicate()

    def stop(self) -> None:
        for one in self.running:
            one.communicate()


# The check ---------------------------------------------------------------------------------------


def counted(database: Path) -> Counter[bool]:
    """The stored outcomes by success."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "SELECT json_extract(body, '$.success'), COUNT(*) FROM outcomes GROUP BY 1"
            )
            return Counter({bool(success): number for success, number in rows})
    except sqlite3.Error:
        return Counter()


def dead_letters(servers: str, topic: str, count: int) -> Counter[str]:
    """The positions of the dead letters, with the number of each."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"checker of {topic}",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    consumer.subscribe([f"{topic}.dead-letter"])
    found: Counter[str] = Counter()
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < (10.0 if len(found) < count else 2.0):
        for one in consumer.consume(500, timeout=0.5):
            if one.error() is None:
                found[dict(one.headers() or ())["position"].decode()] += 1
                quiet_since = time.monotonic()
    consumer.close()
    return found


def wait_for(database: Path, total: int, kill: Any) -> float:
    """Seconds until all events are counted. `kill` is called with the share of counted events."""
    started = changed = time.monotonic()
    before = -1
    while (now := counted(database).total()) < total:
        if now != before:
            before, changed = now, time.monotonic()
        if time.monotonic() - started > LIMIT_S or time.monotonic() - changed > STALLED_S:
            break
        kill(now / total)
        time.sleep(0.5)
    return time.monotonic() - started


def phase(
    servers: str, producer: Producer, folder: Path, name: str, *, events: int, consumers: int, kills: int
) -> dict[str, Any]:
    rng, topic, database = random.Random(0), f"agent-outcomes-{name}", folder / f"{name}.db"
    for number in range(events):
        producer.produce(topic, message(number), key=str(number))
        if number % 1_000 == 0:
            producer.flush()
    producer.flush()
    wanted, malformed = expected(events)
    group, killed = Consumers(servers, topic, database), 0
    for _ in range(consumers):
        group.start()
    next_kill = [time.monotonic() + 5.0]

    def kill(_share: float) -> None:
        nonlocal killed
        if killed < kills and time.monotonic() > next_kill[0]:
            group.kill(rng)
            group.start()
            killed += 1
            next_kill[0] = time.monotonic() + rng.uniform(1.0, 4.0)

    seconds = wait_for(database, wanted.total(), kill)
    time.sleep(1.0)
    group.stop()
    found, letters = counted(database), dead_letters(servers, topic, malformed)
    return {
        "consumers": consumers,
        "kills": killed,
        "messages": events,
        "distinct_events": wanted.total(),
        "counted": found.total(),
        "exact": found == wanted,
        "malformed": malformed,
        "dead_letters": len(letters),
        "repeated_dead_letters": letters.total() - len(letters),
        "seconds": round(seconds, 1),
        "events_a_second": round(events / seconds),
    }


def main(arguments: argparse.Namespace) -> int:
    producer = Producer({"test.mock.num.brokers": 1, "linger.ms": 5, "log_level": 0})
    brokers = producer.list_topics(timeout=30).brokers.values()
    servers = ",".join(f"{one.host}:{one.port}" for one in brokers)
    with tempfile.TemporaryDirectory() as folder:
        found = [
            phase(
                servers,
                producer,
                Path(folder),
                name,
                events=arguments.events,
                consumers=consumers,
                kills=kills,
            )
            for name, consumers, kills in (("quiet", 1, 0), ("killed", 3, arguments.kills))
        ]
    print(json.dumps(found, indent=2))
    return int(not all(one["exact"] and one["dead_letters"] == one["malformed"] for one in found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--consumer", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.consumer:
        asyncio.run(consume(given.consumer[0], given.consumer[1], Path(given.consumer[2])))
    else:
        sys.exit(main(given))
