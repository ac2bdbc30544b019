"""`rollback`: an earlier version becomes live again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karen_learner.cli.arguments import Tenant
from karen_learner.cli.exits import ExitCode
from karen_learner.cli.invocation import Invocation
from karen_learner.cli.options import with_common_options
from karen_learner.cli.render import command_line, facts, moment, text
from karen_learner.errors import DeploymentError, InvalidInput, UnknownVersion

if TYPE_CHECKING:
    from rich.console import RenderableType

    from karen_learner.learner import AutonomousLearner
    from karen_learner.models.versions import Manifest
    from karen_learner.records import ModelVersion


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is live, and what shall be."""

    tenant: str
    live: ModelVersion | None
    target: ModelVersion
    backup: Path | None

    def document(self, *, done: bool) -> dict[str, Any]:
        return {
            "tenant_id": self.tenant,
            "done": done,
            "version": self.target.to_dict(),
            "previous_version": self.live.version if self.live else None,
            "backup": str(self.backup) if self.backup else None,
        }


@with_common_options
def rollback(
    run: Invocation,
    tenant: Tenant,
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="[VERSION]",
            help="The version to go back to. Default: the one before.",
            show_default=False,
        ),
    ] = None,
    backup: Annotated[
        Path | None,
        typer.Option(
            help="Restore from this archive of model_backups.", metavar="PATH", exists=True, dir_okay=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would become live, and change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Make an earlier version of a tenant's model live again.

    Asks first. Exits with 4 if the answer is no.
    """
    if version is not None and backup is not None:
        raise typer.BadParameter("give a version or --backup, not both")
    change = run.run(lambda learner: planned(learner, tenant, version, backup), tenant=tenant)
    if dry_run:
        run.output.result(change.document(done=False), _facts(change), text("nothing was changed", "dim"))
        return ExitCode.OK
    if not yes and not _agreed(run, change):
        run.output.result(change.document(done=False), text("nothing was changed"))
        return ExitCode.SKIPPED
    run.run(lambda learner: carried_out(learner, change), tenant=tenant)
    run.output.result(change.document(done=True), *_done(run, change))
    return ExitCode.OK


async def planned(
    learner: AutonomousLearner, tenant: str, version: str | None, backup: Path | None
) -> Change:
    """What a rollback would do. Raises UnknownTenant, UnknownVersion, InvalidInput, DeploymentError."""
    live = (await learner.status(tenant)).champion
    name = version or (live.parent if live else None)
    if backup is not None:
        name = await _version_in(backup, tenant)
    target = await learner.store.get_version(tenant, name) if name is not None else None
    if target is None:
        wanted = f"no version {name!r}" if name is not None else "no earlier version to go back to"
        raise UnknownVersion(f"{tenant!r} has {wanted}: see `karen-learner versions`")
    if live is not None and live.version == target.version:
        raise DeploymentError(f"{target.version} is live already: there is nothing to roll back")
    return Change(tenant=tenant, live=live, target=target, backup=backup)


async def _version_in(backup: Path, tenant: str) -> str:
    from asyncio_extras import call_in_executor

    from karen_learner.models.backups import read_backup_manifest

    manifest: Manifest = await call_in_executor(read_backup_manifest, backup)
    if manifest.tenant_id != tenant:
        raise InvalidInput(f"{backup} is a backup of the tenant {manifest.tenant_id!r}, not of {tenant!r}")
    return manifest.version


async def carried_out(learner: AutonomousLearner, change: Change) -> ModelVersion:
    """Do it. Raises UnknownVersion, ModelError, DeploymentError."""
    if change.backup is not None:
        return await learner.training_pipeline.rollback_model(change.backup)
    return await learner.rollback(change.tenant, change.target.version)


def _agreed(run: Invocation, change: Change) -> bool:
    live = change.live.version if change.live else "the fallback"
    try:
        return run.output.ask(f"make {change.target.version} live for {change.tenant!r} instead of {live}?")
    except EOFError:
        raise typer.BadParameter("nobody is there to answer: say --yes") from None


def _facts(change: Change) -> RenderableType:
    live, target = change.live, change.target
    return facts(
        [
            ("tenant", change.tenant),
            ("live now", f"{live.version}, {_scores(live)}" if live else "none"),
            ("to be live", f"{target.version}, {_scores(target)}, made {moment(target.created_at)}"),
            ("from", change.backup),
        ]
    )


def _scores(version: ModelVersion) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in version.scores.items()) or "no scores"


def _done(run: Invocation, change: Change) -> list[RenderableType]:
    done = text(f"{change.target.version} is live again for {change.tenant!r}", "bold green")
    if change.live is None:
        return [done]
    undo = command_line(run.home, "rollback", change.tenant, change.live.version)
    return [done, text(f"to undo: {undo}")]


def register(app: typer.Typer) -> None:
    app.command()(rollback)
