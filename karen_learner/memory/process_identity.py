"""Names of processes that hold leases, and whether such a process still runs."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

UNKNOWN = "-"
"""Placeholder on systems without `/proc`: only Linux has boot ids and namespaces of process ids."""

_ENDED = ("Z", "X")


@dataclass(frozen=True)
class Machine:
    """The scope of a process id: a host, one boot of it, and a namespace of process ids.

    Containers may share the name of their host, and each has a process number 1.
    """

    host: str
    boot: str
    namespace: str

    @classmethod
    def here(cls) -> Machine:
        """The scope of this process."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            namespace = str(Path("/proc/self/ns/pid").stat().st_ino)
        except OSError:
            boot = namespace = UNKNOWN
        return cls(socket.gethostname(), boot, namespace)


def owner_of(pid: int) -> str:
    """A new owner name for a process of this machine: `host/boot/namespace/pid/start/nonce`."""
    here = Machine.here()
    started, _ = _stat(pid)
    return f"{here.host}/{here.boot}/{here.namespace}/{pid}/{started}/{uuid.uuid4().hex[:8]}"


def is_alive(owner: str) -> bool:
    """Whether the process of an owner name may still run.

    False only for a process of this machine whose number is free or belongs to a later process. A lease of
    any other process ends by its expiry.
    """
    *scope, pid, started, _ = owner.split("/") if owner.count("/") == 5 else [""] * 6
    here = Machine.here()
    if scope != [here.host, here.boot, here.namespace] or not pid.isdecimal() or os.name != "posix":
        return True
    if not _exists(int(pid)):
        return False
    present, state = _stat(int(pid))
    if UNKNOWN in (started, present):
        return True
    return present == started and state not in _ENDED


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _stat(pid: int) -> tuple[str, str]:
    """Start of a process in clock ticks since the boot, and its state. See proc(5)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return UNKNOWN, UNKNOWN
    return fields[19], fields[0]
