"""Whether the process that holds a lease may still run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from karen_learner.memory.owners import UNKNOWN, is_alive, owner_of

PARTS = ("host", "boot", "namespace", "pid", "start", "nonce")
on_linux = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="/proc tells more than a number")


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


def test_a_process_that_runs_is_alive(other: subprocess.Popen[bytes]) -> None:
    assert is_alive(owner_of(os.getpid()))
    assert is_alive(owner_of(other.pid))


def test_one_that_has_ended_is_not(other: subprocess.Popen[bytes]) -> None:
    owner = owner_of(other.pid)
    end(other)
    assert not is_alive(owner)


@on_linux
def test_one_that_has_ended_and_nobody_has_looked_after_is_not(other: subprocess.Popen[bytes]) -> None:
    owner = owner_of(other.pid)
    assert other.stdin is not None
    other.stdin.close()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # ended, but its number is still taken
    assert not is_alive(owner)


@on_linux
def test_another_process_with_its_number_is_not_it() -> None:
    mine = owner_of(os.getpid())
    assert not is_alive(changed(mine, start="1"))
    assert is_alive(changed(mine, nonce="other"))


@on_linux
@pytest.mark.parametrize("part", ["host", "boot", "namespace"])
def test_what_cannot_be_seen_from_here_is_taken_to_be_alive(
    other: subprocess.Popen[bytes], part: str
) -> None:
    owner = owner_of(other.pid)
    end(other)
    assert not is_alive(owner)
    assert is_alive(changed(owner, **{part: "elsewhere"}))
    assert is_alive(changed(owner_of(os.getpid()), **{part: "elsewhere", "start": "1"}))


def test_without_a_start_the_number_decides(other: subprocess.Popen[bytes]) -> None:
    owner = changed(owner_of(other.pid), start=UNKNOWN)
    assert is_alive(owner)
    end(other)
    assert not is_alive(owner)


@pytest.mark.parametrize("owner", ["", "odd", "host/12/nonce", "a/b/c/d/e/f/g"])
def test_what_names_no_process_is_taken_to_be_alive(owner: str) -> None:
    assert is_alive(owner)
    assert is_alive(changed(owner_of(os.getpid()), pid="nobody"))


def test_each_name_is_another_one() -> None:
    assert owner_of(os.getpid()) != owner_of(os.getpid())
