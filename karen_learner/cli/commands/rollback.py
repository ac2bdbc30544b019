"""`rollback`: deployment of an earlier version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, Yes, argument, flag, option, run_coroutine, with_common_options
from karen_learner.cli.output import text
from karen_learner.errors import DeploymentError, ExitCode, InvalidInput, UnknownVersion

if TYPE_CHECKING:
    from rich.console import RenderableType

    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import ModelVersion
    from karen_learner.records.evaluations import VersionComparison


@with_common_options
def rollback(
    run: Context,
    tenant: Tenant,
    version: Annotated[
        str | None, argument("VERSION", "Target version. Default: the parent of the live one.")
    ] = None,
    backup: Annotated[
        Path | None, option("PATH", "Restore this archive of model_backups.", exists=True, dir_okay=False)
    ] = None,
    dry_run: Annotated[bool, flag("--dry-run", "Show the target version. Change nothing.")] = False,
    yes: Yes = False,
) -> int:
    """Restore an earlier model version of a tenant.

    Examples that only the undone versions learned wait until `release` or `discard`.

    Asks for confirmation. Exit code 4: declined.
    """
    from karen_learner.cli.render import waiting
    from karen_learner.cli.tables import command_line, facts

    if version is not None and backup is not None:
        raise typer.BadParameter("VERSION and --backup exclude each other: give one")
    live, target, undone, compared = run_coroutine(planned(run, tenant, version, backup))
    document = {
        "tenant_id": tenant,
        "done": False,
        "version": target.to_dict(),
        "previous_version": live.version if live else None,
        "backup": str(backup) if backup else None,
        "waiting": undone,
        "comparison": _document(compared),
    }
    then = waiting(run.home, tenant, undone)
    if dry_run:
        shown = facts({"tenant": tenant, **_versions(live, target), "backup": backup})
        run.output.result(document, shown, _compared(compared), *then, text("nothing changed", "dim"))
        return ExitCode.OK
    if not yes:
        run.output.show(_compared(compared))
        served = live.version if live else "the fallback"
        if not confirmed(run, f"replace {served} by {target.version} for {tenant!r}?"):
            run.output.result(document, "nothing changed")
            return ExitCode.SKIPPED
    run_coroutine(apply(run, target, backup))
    done = [text(f"{target.version} is live for {tenant!r}", "bold green")]
    if live is not None:
        done.append(text(f"to undo: {command_line(run.home, 'rollback', tenant, live.version)}"))
    run.output.result(document | {"done": True}, *done, *then)
    return ExitCode.OK


def _versions(live: ModelVersion | None, target: ModelVersion) -> dict[str, str]:
    """The live version and the target. Their own scores are of different texts."""
    from karen_learner.cli.tables import utc_text

    names = {"live": live, "target": target}
    return {
        name: f"{one.version}, created {utc_text(one.created_at)}" if one else "none"
        for name, one in names.items()
    }


def _document(compared: VersionComparison | str) -> dict[str, object] | None:
    """The scores of both versions on the same texts."""
    if isinstance(compared, str):
        return None
    return compared.model_dump(mode="json", exclude={"flips", "example_texts"})


def _compared(compared: VersionComparison | str) -> RenderableType:
    """The scores of both versions on the same texts, or the reason why they cannot be compared."""
    from karen_learner.cli.render_evaluation import differences

    if isinstance(compared, str):
        return text(compared, "dim")
    return differences(compared, names=("live", "target"))


async def planned(
    run: Context, tenant: str, version: str | None, backup: Path | None
) -> tuple[ModelVersion | None, ModelVersion, int, VersionComparison | str]:
    """The live version, the target, the number of examples that will wait, and a comparison of both.

    The comparison is the reason if there is none.

    Raises UnknownTenant, UnknownVersion, InvalidInput, DeploymentError.
    """
    async with run.learner(tenant) as learner:
        live = (await learner.status(tenant)).serving
        name = version or (live.parent if live else None)
        if backup is not None:
            name = _version_in(backup, tenant)
        target = await learner.version(tenant, name) if name is not None else None
        undone = await learner.store.count_undone(tenant, target.version) if target is not None else 0
        compared = await _comparison(learner, live, target)
    if target is None:
        wanted = f"no version {name!r}" if name is not None else "no earlier version"
        raise UnknownVersion(f"{tenant!r} has {wanted}: see `karen-learner versions`")
    if live is not None and live.version == target.version:
        raise DeploymentError(f"{target.version} is already live: nothing to roll back")
    return live, target, undone, compared


async def _comparison(
    learner: AutonomousLearner, live: ModelVersion | None, target: ModelVersion | None
) -> VersionComparison | str:
    if live is None or target is None:
        return "no live version to compare with"
    try:
        return await learner.compare(live.tenant_id, live.version, target.version)
    except InvalidInput as error:
        return f"the versions cannot be compared: {error}"


def _version_in(backup: Path, tenant: str) -> str:
    from karen_learner.models.backups import read_backup_manifest

    manifest = read_backup_manifest(backup)
    if manifest.tenant_id != tenant:
        raise InvalidInput(f"{backup} is a backup of the tenant {manifest.tenant_id!r}, not of {tenant!r}")
    return manifest.version


async def apply(run: Context, target: ModelVersion, backup: Path | None) -> None:
    """Deploy the target. Raises UnknownVersion, ModelError, DeploymentError."""
    async with run.learner(target.tenant_id) as learner:
        if backup is not None:
            await learner.training_pipeline.rollback_model(backup)
        else:
            await learner.rollback(target.tenant_id, target.version)


def confirmed(run: Context, question: str) -> bool:
    """Whether the user answers yes. Raises typer.BadParameter without an answer."""
    try:
        return run.output.ask(question)
    except EOFError:
        raise typer.BadParameter("no answer on standard input: give --yes") from None
