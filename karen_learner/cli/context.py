"""Context of one command: its common options, and the learner of its home."""

from __future__ import annotations

import asyncio
import difflib
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from karen_learner.cli.output import LogHandler, Output, set_verbosity
from karen_learner.errors import InvalidInput, UnknownTenant

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.settings import Settings

T = TypeVar("T")
Work = Callable[["AutonomousLearner"], Awaitable[T]]

HOME_VARIABLE = "KAREN_HOME"
SETTINGS_FILE = "karen.cfg"


@dataclass(kw_only=True)
class Context:
    """Common options from before and after the command name.

    A later `--home` or `--config` replaces an earlier one. All `--set` options apply.
    """

    output: Output
    logs: LogHandler | None = None
    typer_context: typer.Context | None = None
    home_given: Path | None = None
    config_given: Path | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    debug: bool = False
    verbose: bool = False

    def update(self, options: Mapping[str, Any]) -> None:
        """Add the options of one place of the command line. Raises typer.BadParameter."""
        self.home_given = options["home"] or self.home_given
        self.config_given = options["config"] or self.config_given
        self.overrides.update(map(_assignment, options["set"] or ()))
        self.output.json |= options["json"]
        self.debug |= options["debug"]
        self.verbose |= options["verbose"]
        if self.logs is not None:
            set_verbosity(self.logs, verbose=self.verbose, debug=self.debug)

    @property
    def home(self) -> Path:
        return self.home_given or Path(os.environ.get(HOME_VARIABLE) or ".")

    def settings(self) -> Settings:
        """The effective settings. Raises SettingsError."""
        from karen_learner.settings import load_settings

        default = self.home / SETTINGS_FILE
        path = self.config_given or (default if default.is_file() else None)
        return load_settings(path, overrides=self.overrides)

    def run(self, work: Work[T], *, tenant: str | None = None, create: bool = False) -> T:
        """The result of `work` with the learner of this home.

        Without `create` the home must exist, so that a wrong folder gets no database. The error of an
        unknown `tenant` suggests a near name.
        """
        settings = self.settings()
        if not create:
            self._require_home(settings)
        return asyncio.run(self._with_learner(settings, work, tenant), debug=False)

    def _require_home(self, settings: Settings) -> None:
        from karen_learner.models.files import HomeLayout

        database = HomeLayout(self.home, settings.paths).database
        if not settings.store.url and not database.is_file():
            raise InvalidInput(
                f"there is no database in {database.parent}: give the right folder with --home, "
                "or create a home with `karen-learner init`"
            )

    async def _with_learner(self, settings: Settings, work: Work[T], tenant: str | None) -> T:
        from karen_learner.factory import create_autonomous_learner

        async with create_autonomous_learner(self.home, settings=settings) as learner:
            try:
                return await work(learner)
            except UnknownTenant as error:
                near = difflib.get_close_matches(tenant or "", await learner.tenants(), n=1)
                if not near:
                    raise
                raise UnknownTenant(f"{error}; did you mean {near[0]!r}?") from error


def _assignment(text: str) -> tuple[str, Any]:
    from karen_learner.settings import parse_value

    name, equals, value = text.partition("=")
    if not equals or "." not in name:
        raise typer.BadParameter(f"write --set section.key=value, not {text!r}")
    return name.strip(), parse_value(value.strip())
