"""Homes of simulations, separate from all others."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from karen_learner.disk import make_folder, open_private
from karen_learner.errors import InvalidInput
from karen_learner.settings import Settings, load_settings

DEMO_MARK = "made-by-karen-learner-demo.txt"
MARK_TEXT = "`karen-learner demo` created this folder. The next run replaces it.\n"


def isolated(settings: Settings) -> Settings:
    """The same settings with the default database and folders below the home."""
    usual = load_settings(environment={})
    store = settings.store.model_copy(update={"url": usual.store.url})
    return settings.model_copy(update={"store": store, "paths": usual.paths})


@contextmanager
def fresh_home(keep: Path | None = None) -> Iterator[Path]:
    """The folder `keep`, or a temporary one. Raises InvalidInput if `keep` is not empty."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="karen-simulation-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
        return
    if keep.exists() and not _is_empty(keep):
        raise InvalidInput(f"{keep} is not empty: give a new or empty folder")
    make_folder(keep)
    yield keep


def make_demo_home(home: Path, settings_text: str) -> None:
    """Create a home with these settings in `karen.cfg`. Replaces the home of an earlier demo.

    Raises InvalidInput for a file, and for any other folder with content.
    """
    if home.is_symlink() or (home.exists() and not (_is_empty(home) or (home / DEMO_MARK).is_file())):
        raise InvalidInput(f"{home} is not a home of the demo: give another folder with --home")
    if home.exists():
        shutil.rmtree(home)
    make_folder(home)
    for name, content in ((DEMO_MARK, MARK_TEXT), ("karen.cfg", settings_text)):
        with open_private(home / name) as file:
            file.write(content)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
