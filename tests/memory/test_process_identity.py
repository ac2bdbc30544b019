"""Names of processes that hold leases, and whether such a process still runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from karen_learner.memory.leases import UNKNOWN, is_alive, owner_of

PARTS = ("host", "boot", "namespace", "pid", "start", "nonce")
on_linux = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs /proc")


def changed(owner: str, **parts: str) -> str:
    return "/".join((dict(zip(PARTS, owner.split("/"), strict=True)) | parts).values())


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which ends when its input does."""
    with subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def test_a_running_process_is_alive(other: subprocess.Popen[bytes]) -> None:
    assert is_alive(owner_of(os.getpid()))
    assert is_alive(owner_of(other.pid))


def test_an_ended_process_is_not_alive(other: subprocess.Popen[bytes]) -> None:
    owner = owner_of(other.pid)
    end(other)
    assert not is_alive(owner)


@on_linux
def test_an_ended_process_whose_number_is_still_taken_is_not_alive(other: subprocess.Popen[bytes]) -> None:
    owner = owner_of(other.pid)
    assert other.stdin is not None
    other.stdin.close()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # ended, but its number is still taken
    assert not is_alive(owner)


@on_linux
def test_a_later_process_with_the_same_number_is_another_process() -> None:
    mine = owner_of(os.getpid())
    assert not is_alive(changed(mine, start="1"))
    assert is_alive(changed(mine, nonce="other"))


@on_linux
@pytest.mark.parametrize("part", ["host", "boot", "namespace"])
def test_a_process_of_another_machine_counts_as_alive(other: subprocess.Popen[bytes], part: str) -> None:
    owner = owner_of(other.pid)
    end(other)
    assert not is_alive(owner)
    assert is_alive(changed(owner, **{part: "elsewhere"}))
    assert is_alive(changed(owner_of(os.getpid()), **{part: "elsewhere", "start": "1"}))


def test_without_a_start_time_the_number_decides(other: subprocess.Popen[bytes]) -> None:
    owner = changed(owner_of(other.pid), start=UNKNOWN)
    assert is_alive(owner)
    end(other)
    assert not is_alive(owner)


@pytest.mark.parametrize("owner", ["", "odd", "host/12/nonce", "a/b/c/d/e/f/g"])
def test_a_name_of_no_process_counts_as_alive(owner: str) -> None:
    assert is_alive(owner)
    assert is_alive(changed(owner_of(os.getpid()), pid="nobody"))


def test_each_call_returns_a_new_name() -> None:
    assert owner_of(os.getpid()) != owner_of(os.getpid())
