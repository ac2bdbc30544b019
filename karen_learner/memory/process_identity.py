"""Names of processes that hold leases, and whether such a process still runs."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

UNKNOWN = "-"
"""Placeholder on systems without `/proc`: only Linux has boot ids and namespaces of process ids."""

_ENDED = ("Z", "X")


def owner_of(pid: int) -> str:
    """A new owner name for a process of this machine: `host/boot/namespace/pid/start/nonce`."""
    started, _ = _stat(pid)
    return f"{_machine()}/{pid}/{started}/{uuid.uuid4().hex[:8]}"


def holder_of(owner: str) -> str:
    """The machine and the process of an owner name, for messages."""
    if owner.count("/") != 5:
        return owner
    machine, pid, _, _ = owner.rsplit("/", 3)
    return f"{machine.split('/')[0]} (process {pid})"


def is_alive(owner: str) -> bool:
    """Whether the process of an owner name may still run.

    False only for a process of this machine whose number is free or belongs to a later process. A lease of
    any other process ends by its expiry.
    """
    if owner.count("/") != 5:
        return True
    machine, pid, started, _ = owner.rsplit("/", 3)
    if machine != _machine() or not pid.isdecimal() or os.name != "posix":
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # the process of another user, or no number of a process
        pass
    present, state = _stat(int(pid))
    return UNKNOWN in (started, present) or (present == started and state not in _ENDED)


def _machine() -> str:
    """The scope of a process id: a host, one boot of it, and a namespace of process ids.

    Containers may share the name of their host, and each has a process number 1.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        boot = namespace = UNKNOWN
    return f"{socket.gethostname()}/{boot}/{namespace}"


def _stat(pid: int) -> tuple[str, str]:
    """Start of a process in clock ticks since the boot, and its state. See proc(5)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return UNKNOWN, UNKNOWN
    return fields[19], fields[0]
