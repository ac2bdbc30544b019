"""Where a simulation lives: a home of its own, which never touches another."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from karen_learner.errors import InvalidInput
from karen_learner.settings import Settings, load_settings

DEMO_MARK = "made-by-karen-learner-demo.txt"
MARK_TEXT = "`karen-learner demo` made this folder and replaces it when it is run again.\n"


def isolated(settings: Settings) -> Settings:
    """The same settings, but everything is stored below the home: no other database, no other folder."""
    values = settings.dump()
    usual = load_settings(environment={}).dump()
    values["store"]["url"] = usual["store"]["url"]
    values["paths"] = usual["paths"]
    return load_settings(overrides=values, environment={})


@contextmanager
def fresh_home(keep: Path | None = None) -> Iterator[Path]:
    """`keep`, which must be new or empty, or a temporary folder that is removed at the end.

    Raises InvalidInput.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="karen-simulation-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
        return
    if keep.exists() and not _is_empty(keep):
        raise InvalidInput(f"{keep} is not empty: name a new folder, a simulation begins from nothing")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep


def make_demo_home(home: Path, settings_text: str) -> None:
    """A new home with these settings in its `karen.cfg`. One that an earlier demo made is replaced.

    Raises InvalidInput for any other folder that is not empty, and for what is no folder.
    """
    if home.is_symlink() or (home.exists() and not (_is_empty(home) or (home / DEMO_MARK).is_file())):
        raise InvalidInput(f"{home} was not made by the demo, so it is left alone: name another with --home")
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(parents=True)
    (home / DEMO_MARK).write_text(MARK_TEXT, encoding="utf-8")
    (home / "karen.cfg").write_text(settings_text, encoding="utf-8")


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
