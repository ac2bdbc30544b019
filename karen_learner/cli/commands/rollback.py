"""`rollback`: deployment of an earlier version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, with_common_options
from karen_learner.cli.render import command_line, facts, text, utc_text
from karen_learner.errors import DeploymentError, ExitCode, InvalidInput, UnknownVersion

if TYPE_CHECKING:
    from rich.console import RenderableType

    from karen_learner.learner import AutonomousLearner
    from karen_learner.models.versions import Manifest
    from karen_learner.records import ModelVersion


@dataclass(frozen=True, kw_only=True)
class Change:
    """The live version and the target of a rollback."""

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
    run: Context,
    tenant: Tenant,
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="VERSION",
            help="Target version. Default: the parent of the live one.",
            show_default=False,
        ),
    ] = None,
    backup: Annotated[
        Path | None,
        typer.Option(
            help="Restore this archive of model_backups.", metavar="PATH", exists=True, dir_okay=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the target version. Change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> int:
    """Restore an earlier model version of a tenant.

    Asks for confirmation. Exit code 4: declined.
    """
    if version is not None and backup is not None:
        raise typer.BadParameter("VERSION and --backup exclude each other: give one")
    change = run.run(lambda learner: planned(learner, tenant, version, backup), tenant=tenant)
    if dry_run:
        run.output.result(change.document(done=False), _facts(change), text("nothing changed", "dim"))
        return ExitCode.OK
    if not yes and not _confirmed(run, change):
        run.output.result(change.document(done=False), text("nothing changed"))
        return ExitCode.SKIPPED
    run.run(lambda learner: apply(learner, change), tenant=tenant)
    run.output.result(change.document(done=True), *_done(run, change))
    return ExitCode.OK


async def planned(
    learner: AutonomousLearner, tenant: str, version: str | None, backup: Path | None
) -> Change:
    """The change that a rollback would make.

    Raises UnknownTenant, UnknownVersion, InvalidInput, DeploymentError.
    """
    live = (await learner.status(tenant)).champion
    name = version or (live.parent if live else None)
    if backup is not None:
        name = await _version_in(backup, tenant)
    target = await learner.store.get_version(tenant, name) if name is not None else None
    if target is None:
        wanted = f"no version {name!r}" if name is not None else "no earlier version"
        raise UnknownVersion(f"{tenant!r} has {wanted}: see `karen-learner versions`")
    if live is not None and live.version == target.version:
        raise DeploymentError(f"{target.version} is already live: nothing to roll back")
    return Change(tenant=tenant, live=live, target=target, backup=backup)


async def _version_in(backup: Path, tenant: str) -> str:
    from asyncio_extras import call_in_executor

    from karen_learner.models.backups import read_backup_manifest

    manifest: Manifest = await call_in_executor(read_backup_manifest, backup)
    if manifest.tenant_id != tenant:
        raise InvalidInput(f"{backup} is a backup of the tenant {manifest.tenant_id!r}, not of {tenant!r}")
    return manifest.version


async def apply(learner: AutonomousLearner, change: Change) -> ModelVersion:
    """The version that is live after the change. Raises UnknownVersion, ModelError, DeploymentError."""
    if change.backup is not None:
        return await learner.training_pipeline.rollback_model(change.backup)
    return await learner.rollback(change.tenant, change.target.version)


def _confirmed(run: Context, change: Change) -> bool:
    live = change.live.version if change.live else "the fallback"
    try:
        return run.output.ask(f"replace {live} by {change.target.version} for {change.tenant!r}?")
    except EOFError:
        raise typer.BadParameter("no answer on standard input: give --yes") from None


def _facts(change: Change) -> RenderableType:
    live, target = change.live, change.target
    return facts(
        [
            ("tenant", change.tenant),
            ("live", f"{live.version}, {_scores(live)}" if live else "none"),
            ("target", f"{target.version}, {_scores(target)}, created {utc_text(target.created_at)}"),
            ("backup", change.backup),
        ]
    )


def _scores(version: ModelVersion) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in version.scores.items()) or "no scores"


def _done(run: Context, change: Change) -> list[RenderableType]:
    done = text(f"{change.target.version} is live for {change.tenant!r}", "bold green")
    if change.live is None:
        return [done]
    undo = command_line(run.home, "rollback", change.tenant, change.live.version)
    return [done, text(f"to undo: {undo}")]
