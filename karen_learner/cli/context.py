"""Context of one command: its common options, and the learner of its home."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karen_learner.cli.output import Output, set_verbosity
from karen_learner.disk import home_path
from karen_learner.errors import InvalidInput, UnknownTenant

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.settings import Settings

HOME_VARIABLE = "KAREN_HOME"
HOME_HELP = f"Folder of all data. Default: the variable {HOME_VARIABLE}, or the current folder."
SETTINGS_FILE = "karen.cfg"
SETTINGS_HELP = f"Settings file. Default: {SETTINGS_FILE} in the home, if it exists."
PANEL = "Common options, before or after the command"


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=PANEL, show_default=False, **more)


@dataclass(kw_only=True)
class Context:
    """Common options from before and after the command name.

    A later `--home` or `--config` replaces an earlier one. All `--set` options apply.
    """

    output: Output
    typer_context: typer.Context | None = None
    home_given: Path | None = None
    config_given: Path | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    read_only: bool = False
    debug: bool = False
    verbose: bool = False

    def update(
        self,
        *,
        home: Annotated[Path | None, _option(help=HOME_HELP, metavar="PATH", file_okay=False)] = None,
        config: Annotated[
            Path | None, _option(help=SETTINGS_HELP, metavar="FILE", exists=True, dir_okay=False)
        ] = None,
        set: Annotated[
            list[str] | None, _option(help="Change one setting. Repeatable.", metavar="SECTION.KEY=VALUE")
        ] = None,
        read_only: Annotated[
            bool, _option("--read-only", help="Write nothing to the home. Writing commands fail.")
        ] = False,
        json: Annotated[bool, _option("--json", help="Print one JSON document.")] = False,
        verbose: Annotated[bool, _option("--verbose", help="Print progress to standard error.")] = False,
        debug: Annotated[bool, _option("--debug", help="Print all messages and stack traces.")] = False,
    ) -> None:
        """Add the options of one place of the command line. Raises typer.BadParameter."""
        self.home_given = home or self.home_given
        self.config_given = config or self.config_given
        self.overrides.update(map(_assignment, set or ()))
        self.read_only |= read_only
        self.output.json |= json
        self.debug |= debug
        self.verbose |= verbose
        set_verbosity(verbose=self.verbose, debug=self.debug)

    @property
    def home(self) -> Path:
        return home_path(self.home_given or os.environ.get(HOME_VARIABLE) or ".")

    def settings(self) -> Settings:
        """The effective settings. Raises SettingsError."""
        from karen_learner.settings import load_settings

        default = self.home / SETTINGS_FILE
        path = self.config_given or (default if default.is_file() else None)
        return load_settings(path, overrides=self.overrides)

    @asynccontextmanager
    async def learner(
        self, tenant: str | None = None, *, create: bool = False
    ) -> AsyncIterator[AutonomousLearner]:
        """The learner of this home.

        Without `create` the home must exist, so that a wrong folder gets no database. The error of an
        unknown `tenant` suggests a near name.
        """
        from karen_learner import create_autonomous_learner

        settings = self.settings()
        if not create:
            self.require_home(settings)
        made = create_autonomous_learner(self.home, settings=settings, read_only=self.read_only)
        async with self._without_foreign_output(), made as learner:
            try:
                yield learner
            except UnknownTenant as error:
                near = difflib.get_close_matches(tenant or "", await learner.tenants(), n=1)
                if not near:
                    raise
                raise UnknownTenant(f"{error}; did you mean {near[0]!r}?") from error

    @asynccontextmanager
    async def _without_foreign_output(self) -> AsyncIterator[None]:
        """Prints of users' components go to standard error: standard output is for the result alone."""
        with redirect_stdout(sys.stderr):
            yield

    def require_home(self, settings: Settings) -> None:
        """Raises InvalidInput if the home has no database."""
        from karen_learner.models.files import HomeLayout

        database = HomeLayout(self.home, settings.paths).database
        if not settings.store.url and not database.is_file():
            raise InvalidInput(
                f"there is no database in {database.parent}: give the right folder with --home, "
                "or create a home with `karen-learner init`"
            )


def _assignment(text: str) -> tuple[str, Any]:
    from karen_learner.settings import parse_value

    name, equals, value = text.partition("=")
    if not equals or "." not in name:
        raise typer.BadParameter(f"write --set section.key=value, not {text!r}")
    return name.strip(), parse_value(value.strip())
