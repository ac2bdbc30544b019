"""Who holds a lease: a process, told apart from every other that ever had its number, here or elsewhere."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

UNKNOWN = "-"
"""Stands for what a system does not tell: only Linux has boot ids and namespaces of process ids."""

_ENDED = ("Z", "X")


@dataclass(frozen=True)
class Machine:
    """Where process ids mean the same: a host, since it was booted, within one namespace of process ids.

    Containers may share the name of their host, and each has a process number 1.
    """

    host: str
    boot: str
    namespace: str

    @classmethod
    def here(cls) -> Machine:
        """That of this process."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            namespace = str(Path("/proc/self/ns/pid").stat().st_ino)
        except OSError:
            boot = namespace = UNKNOWN
        return cls(socket.gethostname(), boot, namespace)


def owner_of(pid: int) -> str:
    """The name under which a process of this machine holds leases, another one each time it is called:
    `host/boot/namespace/pid/start/nonce`."""
    here = Machine.here()
    started, _ = _stat(pid)
    return f"{here.host}/{here.boot}/{here.namespace}/{pid}/{started}/{uuid.uuid4().hex[:8]}"


def is_alive(owner: str) -> bool:
    """Whether the process that holds a lease as `owner` may still run.

    Only one that can be seen from here is taken to be dead, when its number is free, or was given to
    another since. For all others, the lease's time has to run out.
    """
    *where, pid, started, _ = owner.split("/") if owner.count("/") == 5 else [""] * 6
    if tuple(where) != _as_parts(Machine.here()) or not pid.isdecimal() or os.name != "posix":
        return True
    if not _exists(int(pid)):
        return False
    present, state = _stat(int(pid))
    if UNKNOWN in (started, present):
        return True
    return present == started and state not in _ENDED


def _as_parts(machine: Machine) -> tuple[str, str, str]:
    return machine.host, machine.boot, machine.namespace


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _stat(pid: int) -> tuple[str, str]:
    """When a process started, in clock ticks since the boot, and its state. See proc(5)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return UNKNOWN, UNKNOWN
    return fields[19], fields[0]
