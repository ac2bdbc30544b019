"""Marked blocks in the crontab of this user. All other bytes of the crontab stay as they are."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable

from karen_learner.errors import InvalidInput

PROGRAM = "crontab"
TIMEOUT_S = 30.0
NO_CRONTAB = b"no crontab"
ADDED_NEWLINE = " (with the newline before it)"


def block_name(value: str) -> str:
    """The name of a block. Raises InvalidInput for other signs than letters, digits and hyphens."""
    if not re.fullmatch(r"[a-z0-9-]{1,80}", value):
        raise InvalidInput(f"the name of a block has letters, digits and hyphens only, not {value!r:.80}")
    return value


def with_block(crontab: bytes, name: str, lines: Iterable[str]) -> bytes:
    """The crontab with this block, in place of an earlier one with its name; without lines: without it.

    Raises InvalidInput if the crontab has a beginning of the block without an end, or several.
    """
    place = _find(crontab, name)
    before, after = (crontab, b"") if place is None else (crontab[: place.start()], crontab[place.end() :])
    content = list(lines)
    if not content:
        return before + after
    added = bool(before) and not before.endswith(b"\n")
    begin = f"# BEGIN karen_learner {name}{ADDED_NEWLINE if added else ''}"
    text = "\n".join([begin, *content, f"# END karen_learner {name}"])
    return before + (b"\n" if added else b"") + text.encode() + b"\n" + after


def block_lines(crontab: bytes, name: str) -> list[str]:
    """The lines of a block, without its marks; none if there is no such block. Raises InvalidInput."""
    place = _find(crontab, name)
    return [] if place is None else place["lines"].decode(errors="replace").splitlines()


def _find(crontab: bytes, name: str) -> re.Match[bytes] | None:
    mark, newline = re.escape(block_name(name).encode()), re.escape(ADDED_NEWLINE.encode())
    begins = re.findall(
        rb"^# BEGIN karen_learner " + mark + rb"(?:" + newline + rb")?$", crontab, re.MULTILINE
    )
    pattern = (
        rb"(?:(?<=[^\n])\n(?=# BEGIN karen_learner " + mark + newline + rb"\n)|^)"
        rb"# BEGIN karen_learner " + mark + rb"(?:" + newline + rb")?\n"
        rb"(?P<lines>(?:(?!# (?:BEGIN|END) karen_learner ).*\n)*)"
        rb"# END karen_learner " + mark + rb"(?:\n|\Z)"
    )
    found = re.search(pattern, crontab, re.MULTILINE)
    if len(begins) > 1 or (begins and found is None):
        raise InvalidInput(
            f"the crontab has a damaged block {name!r}: remove its lines with `crontab -e`, and try again"
        )
    return found


def read_crontab() -> bytes:
    """The crontab of this user; empty without one. Raises InvalidInput if it cannot be read."""
    done = _crontab(["-l"])
    if done.returncode == 0:
        return done.stdout
    if NO_CRONTAB in done.stderr.lower():
        return b""
    raise InvalidInput(f"the crontab cannot be read: {_message(done)}")


def write_crontab(content: bytes) -> None:
    """Replace the crontab of this user. Raises InvalidInput if cron refuses it: it is unchanged then."""
    done = _crontab(["-"], content)
    if done.returncode:
        raise InvalidInput(f"cron refuses the crontab: {_message(done)}")


def _crontab(arguments: list[str], content: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - fixed program without a shell
            [PROGRAM, *arguments], input=content, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise InvalidInput("there is no program `crontab`: install cron, or use --systemd") from error
    except subprocess.TimeoutExpired as error:
        raise InvalidInput(f"`crontab` does not answer within {TIMEOUT_S:g} s") from error


def _message(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode(errors="replace").strip()[:200] or f"exit code {done.returncode}"
