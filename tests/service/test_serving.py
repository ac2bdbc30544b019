"""The commands `serve` and `keys`, with a real server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ACME, TINY

PROGRAM = [sys.executable, "-m", "karen_learner.cli"]
SETTINGS = [word for name, value in TINY.items() for word in ("--set", f"{name}={json.dumps(value)}")]
PATIENCE_S = 120.0


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, "--home", str(home), *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@contextlib.contextmanager
def served(home: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service on a free port, and its address."""
    command = [*PROGRAM, "--home", str(home), *SETTINGS, "serve", "--port", str(free_port()), *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert process.stderr is not None
        found = re.search(r"http://[\d.]+:\d+", process.stderr.readline())
        assert found is not None
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{found[0]}/readyz", timeout=PATIENCE_S).status_code == 200:
                    break
            time.sleep(0.1)
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.mark.parametrize("workers", ["1", "2"])
def test_streams_end_when_the_service_stops(taught_home, workers):
    with served(taught_home, "--workers", workers) as (process, address):
        url = f"{address}/v1/tenants/{ACME}"
        if workers == "1":
            turn = {"user_text": "what is my balance", "assistant_response": "", "user_id": "u"}
            with httpx.stream("GET", f"{url}/events", timeout=PATIENCE_S) as stream:
                httpx.post(f"{url}/turns", json=turn, timeout=PATIENCE_S)
                lines = stream.iter_lines()
                assert next(lines) == "event: TurnCollected"
                process.send_signal(signal.SIGTERM)
                list(lines)
        else:
            _require_one_state(url)
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) in (0, -signal.SIGTERM)


def _require_one_state(url: str) -> None:
    """A job of one worker process is found by all, and its model answers in all of them."""
    gold = [{"text": f"cancel my order {number}", "intent": "cancel"} for number in range(12)]
    job = httpx.post(f"{url}/bootstrap", json={"examples": gold}, timeout=PATIENCE_S).json()
    while job["state"] == "running":
        time.sleep(0.1)
        job = httpx.get(f"{url}/jobs/{job['job_id']}", timeout=PATIENCE_S).json()
    version, serving = job["result"]["model_version"], set()
    deadline = time.monotonic() + PATIENCE_S
    for _ in range(20):  # each connection may reach another process
        serving = {""}
        while serving != {version} and time.monotonic() < deadline:
            found = httpx.post(f"{url}/analyze", json={"texts": ["cancel my order"]}, timeout=PATIENCE_S)
            serving = {one["model_version"] for one in found.json()}
    assert serving == {version}


def test_keys_are_created_listed_and_revoked(taught_home):
    made = json.loads(
        run(taught_home, "keys", "create", "bot", "--role", "host", "--tenant", ACME, "--json").stdout
    )
    assert made["key"].startswith(f"kl_{made['key_id']}_")
    listed = run(taught_home, "keys", "list", "--json")
    assert made["key"] not in listed.stdout
    assert json.loads(listed.stdout) == [{name: value for name, value in made.items() if name != "key"}]
    assert run(taught_home, "keys", "revoke", made["key_id"]).returncode == 0
    again = run(taught_home, "keys", "revoke", made["key_id"])
    assert again.returncode == 1
    assert "keys list" in again.stderr


def test_other_machines_need_a_key(taught_home):
    refused = run(taught_home, "serve", "--host", "0.0.0.0")
    assert refused.returncode == 1
    assert "keys create" in refused.stderr


def test_a_folder_without_a_home_is_not_served(tmp_path):
    assert "there is no database" in run(tmp_path, "serve").stderr
