"""`init`: a home with its folder, database and settings file."""

from __future__ import annotations

from pathlib import Path

from karen_learner.cli.context import SETTINGS_FILE, Context
from karen_learner.cli.options import with_common_options
from karen_learner.cli.output import text
from karen_learner.disk import make_folder, open_private
from karen_learner.errors import ExitCode

PREAMBLE = """\
# Settings of this home with their defaults. To change some, write their [section] line and their
# lines at the end of this file, or remove the # of these lines. A section may stand here only once.
# A commented line keeps the default of the installed release.
"""
EXAMPLE_LINE = '{"text": "where is my bill?", "intent": "billing", "sentiment": "neutral"}'


@with_common_options
async def init(run: Context) -> int:
    """Create a home: folder, database and a commented settings file. Keeps existing files."""
    from karen_learner.cli.tables import command_line, facts

    make_folder(run.home)
    settings_file = run.home / SETTINGS_FILE
    is_new_file = write_settings_file(settings_file)
    async with run.learner(create=True) as learner:
        home = str(learner.layout.home)
        database = None if learner.settings.store.url else str(learner.layout.database)
        tenants = len(await learner.tenants())
    document = {
        "home": home,
        "database": database,
        "tenants": tenants,
        "settings_file": str(settings_file),
        "settings_file_written": is_new_file,
    }
    shown = {
        "home": home,
        "database": database or "from store.url",
        "settings": f"{settings_file}{'' if is_new_file else ' (unchanged)'}",
    }
    run.output.result(
        document,
        facts(shown),
        "",
        "Next: train a tenant from a file of labelled texts, one JSON object a line:",
        text(f"  {EXAMPLE_LINE}", "dim"),
        text(f"  {command_line(run.home, 'bootstrap', 'my-tenant', 'examples.jsonl')}", "bold"),
    )
    return ExitCode.OK


def write_settings_file(path: Path) -> bool:
    """Write the commented defaults to `path`. False if the file exists."""
    from karen_learner.settings import shipped_configs

    content = commented_out((shipped_configs() / "default.cfg").read_text(encoding="utf-8"))
    try:
        with open_private(path, "x") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def commented_out(defaults: str) -> str:
    """A settings file that shows all defaults and sets none.

    Section headers are commented as well, so that each section can be appended.
    """
    _, _, settings = defaults.partition("\n\n")
    return PREAMBLE + "\n" + "\n".join(map(_commented_line, settings.splitlines())) + "\n"


def _commented_line(line: str) -> str:
    return line if not line or line.startswith("#") else f"#{line}"
