"""Files below `home/logs`, rotated by size, and removed by age. For this user only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from karen_learner.disk import make_folder, open_private
from karen_learner.models.files import replace_file

LOGS = "logs"
RETRAIN_LOG = "retrain.log"
CRON_LOG = "cron_retrain.log"
HISTORY = "retrain_history.jsonl"
STATUS = "cron_status.json"
MAX_BYTES = 1_000_000
KEPT = 5
"""Rotated copies of a file."""
KEPT_DAYS = 365.0


def log_folder(home: Path) -> Path:
    """The folder of the log files of a home."""
    return home.absolute() / LOGS


def append_line(path: Path, line: str, now: datetime) -> None:
    """Add a line to a file, after a rotation if the file is large. Blocking. Raises OSError."""
    make_folder(path.parent)
    rotate(path, now)
    with open_private(path, "a") as file:
        file.write(line + "\n")


def rotate(path: Path, now: datetime) -> None:
    """Rename a file of more than a megabyte, and remove copies beyond number and age. Blocking."""
    if path.exists() and path.stat().st_size > MAX_BYTES:
        for number in range(KEPT, 0, -1):
            older = _copy(path, number)
            if older.exists():
                older.replace(_copy(path, number + 1))
        path.replace(_copy(path, 1))
    oldest = (now - timedelta(days=KEPT_DAYS)).timestamp()
    for copy in path.parent.glob(f"{path.name}.*"):
        suffix = copy.name.removeprefix(f"{path.name}.")
        if suffix.isdigit() and (int(suffix) > KEPT or copy.stat().st_mtime < oldest):
            copy.unlink(missing_ok=True)


def read_status(home: Path) -> dict[str, Any]:
    """The content of `cron_status.json`; empty without a readable one. Blocking."""
    try:
        found = json.loads((log_folder(home) / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_status(home: Path, changes: Mapping[str, Any]) -> None:
    """Change keys of `cron_status.json`. Blocking. Raises OSError."""
    make_folder(log_folder(home))
    content = json.dumps(read_status(home) | dict(changes), indent=2) + "\n"
    replace_file(log_folder(home) / STATUS, content.encode())


def _copy(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
