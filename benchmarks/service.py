"""Load on the HTTP service: analyses, batches of turns, streams, and its end. The client is on loopback.

    python benchmarks/service.py --seconds 20

1. Analyses at 200 a second through HTTP, and by the library in the client, in alternating rounds: the
   difference of the 99 % quantiles (target: 3 ms). The client writes to plain sockets, because a library for
   HTTP needs as much CPU as the service.
2. Turns in batches of 200 by four clients: acknowledged turns a second (target: 5,000). The store must count
   each acknowledged turn. The same with `Prefer: respond-async`, and the turns stored a second afterwards.
3. The analyses of 1 and 10 turns a second, in alternating rounds without streams and with 200 open streams
   of events, and others whose clients never read (target: at most 1.2 times the quantile without them);
   the sends of the streams, and the CPU time and memory of the service.
4. With --minutes: the memory of the service by minute, with all streams open and few requests.
5. SIGTERM with all streams open: seconds until the process ends (target: 2).

Exit code 1 if a turn is lost or the service does not end.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from karen_learner import AutonomousLearner, create_autonomous_learner
from karen_learner.corpora.importers import iter_labelled, required

TENANT = "telecom"
CORPUS = Path(__file__).parent.parent / "corpus" / "telecom" / "train.jsonl"
FAST = {"training.n_iter": 1, "training.min_updates": 0}
RATE, STREAMS, UNREAD, BATCH, CLIENTS = 200, 200, 20, 200, 4
ROUNDS = 3
PATIENCE_S = 60.0
KEPT_S = 3.0
"""Seconds for which a connection is used again. The service closes it after five."""

Call = Callable[[str], Awaitable[object]]


class SpoolIsFull(Exception):
    """Too many turns wait: none of the batch is acknowledged."""


class Client:
    """Requests about the tenant over plain sockets, which are used again."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []

    async def post(self, path: str, body: object, *headers: str) -> bytes:
        """The body of the answer. Raises RuntimeError for a problem."""
        reader, writer = await self._connection()
        sent = json.dumps(body).encode()
        head = _head("POST", path, "content-type: application/json", f"content-length: {len(sent)}", *headers)
        writer.write(head + sent)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        answer = await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
        self._free.append((reader, writer, time.monotonic()))
        if b"spool-full" in answer:
            raise SpoolIsFull
        if head.split()[1] not in (b"200", b"201", b"202"):
            raise RuntimeError(answer.decode())
        return answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._free:
            reader, writer, used_at = self._free.pop()
            if time.monotonic() - used_at < KEPT_S:
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def analyze(self, text: str) -> None:
        await self.post("/analyze", {"texts": [text]})


def _head(method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} /v1/tenants/{TENANT}{path} HTTP/1.1", "host: 127.0.0.1", *headers, "", ""]
    return "\r\n".join(lines).encode()


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


async def at_rate(call: Call, texts: list[str], *, seconds: float) -> list[float]:
    """Milliseconds of calls that begin at RATE a second, whether or not the former ones have ended."""
    rng, waits, pending = random.Random(0), [], set()

    async def timed(text: str, due: float) -> None:
        await call(text)
        waits.append(1e3 * (time.perf_counter() - due))

    begun = time.perf_counter()
    for number in range(int(seconds * RATE)):
        due = begun + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(timed(rng.choice(texts), time.perf_counter()))
        pending.add(task)
        task.add_done_callback(pending.discard)
    await asyncio.gather(*pending)
    return waits


def show(name: str, waits: list[float]) -> None:
    shown = "".join(f"{quantile(waits, share):9.2f}" for share in (0.5, 0.95, 0.99))
    print(f"{name:42}{shown}")


def memory_mb(pid: int) -> float:
    """Resident memory of a process in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def started(home: Path, port: int) -> subprocess.Popen[bytes]:
    """The service as a process that answers."""
    settings = [word for name, value in FAST.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    command = [sys.executable, "-m", "karen_learner.cli", "--home", str(home), *settings]
    process = subprocess.Popen([*command, "serve", "--port", str(port)], stderr=subprocess.DEVNULL)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return process
            except httpx.TransportError:
                await asyncio.sleep(0.1)
    raise RuntimeError("the service does not answer")


async def compare_analyses(client: Client, home: Path, texts: list[str], seconds: float) -> None:
    """Analyses through HTTP and by the library."""
    http: list[float] = []
    library: list[float] = []
    async with AutonomousLearner(home, overrides=FAST, read_only=True) as learner:

        async def by_library(text: str) -> None:
            await learner.analyze(TENANT, text)

        for call in (client.analyze, by_library):
            await call(texts[0])  # loads the model
            await at_rate(call, texts, seconds=2.0)
        gc.collect()
        gc.freeze()  # as the service does
        for _ in range(4):
            http += await at_rate(client.analyze, texts, seconds=seconds / 4)
            library += await at_rate(by_library, texts, seconds=seconds / 4)
    print(f"{RATE} analyses a second, ms{'':16}{'p50':>9}{'p95':>9}{'p99':>9}")
    show("library", library)
    show("HTTP", http)
    print(
        f"HTTP above the library at p99: {quantile(http, 0.99) - quantile(library, 0.99):.2f} ms (target 3)"
    )


def stored_turns(port: int) -> int:
    """The turns that the store of the service counts."""
    return int(httpx.get(f"http://127.0.0.1:{port}/v1/tenants/{TENANT}").json()["counts"]["turns"])


async def send_turns(client: Client, texts: list[str], seconds: float, *headers: str) -> int:
    """Send batches for some seconds, and wait until the turns are stored; how many are missing then."""
    rng, acknowledged = random.Random(1), 0
    before = stored_turns(client.port)
    until = time.perf_counter() + seconds

    async def sender() -> None:
        nonlocal acknowledged
        while time.perf_counter() < until:
            turns = [
                {"user_text": rng.choice(texts), "assistant_response": "Let me see.", "user_id": f"u{at}"}
                for at in range(BATCH)
            ]
            try:
                answer = json.loads(await client.post("/turns/batch", {"turns": turns}, *headers))
            except SpoolIsFull:
                await asyncio.sleep(1.0)
                continue
            acknowledged += answer.get("stored", 0) + answer.get("spooled", 0)

    begun = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(CLIENTS)))
    ended = time.perf_counter()
    stored = first = stored_turns(client.port) - before
    print(
        f"\n{acknowledged:,} turns in batches of {BATCH} {' '.join(headers)}: "
        f"{acknowledged / (ended - begun):,.0f} a second (target 5,000), {stored:,} stored by then"
    )
    grown_at = ended
    while stored < acknowledged and time.perf_counter() - grown_at < PATIENCE_S:
        await asyncio.sleep(0.5)
        stored, last = stored_turns(client.port) - before, stored
        grown_at = time.perf_counter() if stored > last else grown_at
    if first < acknowledged:
        rate = (stored - first) / (time.perf_counter() - ended)
        print(f"{stored:,} stored at last: {rate:,.0f} a second after the last acknowledgement")
    return acknowledged - stored


async def open_stream(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream of events whose answer has begun."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_head("GET", "/events"))
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


class Streams:
    """Open streams of events and others whose clients never read. `sends` and `events` have arrived."""

    def __init__(self) -> None:
        self.sends = self.events = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._unread: list[socket.socket] = []

    async def open(self, port: int) -> None:
        for _ in range(STREAMS):
            opened = await asyncio.wait_for(open_stream(port), PATIENCE_S)
            self._tasks.append(asyncio.create_task(self._read(*opened)))
        self._unread = [open_unread(port) for _ in range(UNREAD)]

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(65_536):
            self.sends += 1
            self.events += part.count(b"\ndata: ")
        writer.close()

    async def ended(self) -> None:
        """Wait until the service has ended the streams."""
        await asyncio.gather(*self._tasks)
        self._close_unread()

    async def close(self) -> None:
        """Leave the streams."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._close_unread()

    def _close_unread(self) -> None:
        for one in self._unread:
            one.close()


def open_unread(port: int) -> socket.socket:
    """A client of a stream that never reads."""
    one = socket.create_connection(("127.0.0.1", port))
    one.sendall(_head("GET", "/events"))
    return one


async def analyses_beside_turns(client: Client, texts: list[str], seconds: float) -> list[float]:
    turns = asyncio.create_task(slow_turns(client, texts, seconds))
    waits = await at_rate(client.analyze, texts, seconds=seconds)
    await turns
    return waits


async def compare_streams(
    client: Client, process: subprocess.Popen[bytes], texts: list[str], seconds: float
) -> None:
    """Analyses and turns in rounds without streams and with them."""
    waits: dict[bool, list[float]] = {False: [], True: []}
    cpu_s = dict.fromkeys(waits, 0.0)
    sends = events = 0
    for round_number in range(2 * ROUNDS):
        are_open = bool(round_number % 2)
        streams = Streams()
        if are_open:
            await streams.open(client.port)
            await asyncio.sleep(1.0)  # the requests of 200 clients are over
        before = cpu_seconds(process.pid)
        waits[are_open] += await analyses_beside_turns(client, texts, seconds / ROUNDS)
        cpu_s[are_open] += cpu_seconds(process.pid) - before
        sends, events = sends + streams.sends, events + streams.events
        await streams.close()
    print(f"\n{STREAMS} streams and {UNREAD} that are never read, 10 turns a second beside the analyses")
    show("HTTP without streams, ms", waits[False])
    show("HTTP with streams, ms", waits[True])
    print(
        f"p99 by that without streams: {quantile(waits[True], 0.99) / quantile(waits[False], 0.99):.2f} "
        "(target 1.2)"
    )
    print(
        f"{sends / seconds:,.0f} sends a second with {events / seconds:,.0f} events; CPU of the service "
        f"{cpu_s[False] / seconds:.2f} s a second without streams, {cpu_s[True] / seconds:.2f} with them"
    )


async def watch_memory(
    client: Client, process: subprocess.Popen[bytes], texts: list[str], minutes: float
) -> None:
    """The memory of the service with open streams, at two analyses and two turns a second."""
    streams = Streams()
    await streams.open(client.port)
    print(f"\nmemory of the service with {STREAMS} streams, MB by minute:", end="", flush=True)
    for minute in range(int(minutes) + 1):
        print(f" {memory_mb(process.pid):.0f}", end="", flush=True)
        until = time.monotonic() + 60.0 * (minute < int(minutes))
        while time.monotonic() < until:
            await slow_turns(client, texts, 0.1)
            await client.analyze(texts[minute])
            await asyncio.sleep(0.4)
    print()
    await streams.close()


async def end_service(client: Client, process: subprocess.Popen[bytes]) -> bool:
    """SIGTERM with all streams open; whether the service ended."""
    streams = Streams()
    await streams.open(client.port)
    begun = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.to_thread(process.wait, PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return False
    print(f"SIGTERM to the end of the process: {time.perf_counter() - begun:.2f} s (target 2)")
    await streams.ended()
    return True


async def slow_turns(client: Client, texts: list[str], seconds: float) -> None:
    for number in range(int(10 * seconds)):
        turn = {"user_text": texts[number % len(texts)], "assistant_response": "Let me see.", "user_id": "u"}
        await client.post("/turns", turn)
        await asyncio.sleep(0.1)


async def run(options: argparse.Namespace) -> int:
    lines = required(iter_labelled(CORPUS))
    texts = [line.text for line in lines]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        home = Path(folder) / "home"
        async with create_autonomous_learner(home, overrides=FAST) as learner:
            await learner.bootstrap(TENANT, lines)
        port = free_port()
        process = await started(home, port)
        client = Client(port)
        try:
            await compare_analyses(client, home, texts, options.seconds)
            lost = await send_turns(client, texts, options.seconds)
            lost += await send_turns(client, texts, options.seconds, "prefer: respond-async")
            await compare_streams(client, process, texts, options.seconds)
            if options.minutes:
                await watch_memory(client, process, texts, options.minutes)
            ended = await end_service(client, process)
        finally:
            process.kill()
            process.wait()
    return 1 if lost or not ended else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="duration of each measurement")
    parser.add_argument("--minutes", type=float, default=0.0, help="minutes of the memory test")
    parser.add_argument("--folder", help="folder of the temporary home")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
