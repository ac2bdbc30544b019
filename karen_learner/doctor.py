"""The doctor: checks everything that a home needs, and mends problems without a decision of a person."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from asyncio_extras import call_in_executor

from karen_learner.contracts import MemoryStore
from karen_learner.deployment import ChampionSync
from karen_learner.disk import make_private, open_to_others
from karen_learner.errors import KarenLearnerError
from karen_learner.models.backups import check_version, intact_manifest
from karen_learner.models.files import HomeLayout
from karen_learner.models.versions import ModelRegistry, read_manifest, release_of
from karen_learner.monitoring.health import home_health
from karen_learner.pdf import pdf_problem
from karen_learner.records import ModelVersion
from karen_learner.records.health import Finding
from karen_learner.repair import Repair

logger = logging.getLogger(__name__)

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "encoder": ("onnxruntime", "tokenizers"),
    "pdf": ("jinja2", "weasyprint"),
    "plot": ("matplotlib",),
    "postgres": ("asyncpg",),
    "reports": ("jinja2",),
}
"""Optional libraries, by the extra that installs them."""
NEEDED_FOR = {
    "encoder": "sentence vectors of an encoder",
    "pdf": "reports as PDF",
    "plot": "simulate --plot",
    "postgres": "a store on PostgreSQL",
    "reports": "reports as HTML",
}
CHECKED_VERSIONS = 100
RESTORABLE = "a rollback restores it from its backup"


@dataclass(eq=False, repr=False)
class Doctor:
    """Checks the home of a started learner."""

    store: MemoryStore
    registry: ModelRegistry
    champions: ChampionSync
    repair: Repair
    layout: HomeLayout

    async def examine(self, *, fix: bool, read_only: str | None) -> tuple[Finding, ...]:
        """The findings of all checks. With `fix`, permissions, backups and damaged versions are mended."""
        found: list[Finding] = await call_in_executor(
            lambda: [*library_findings(), *_home(self.layout, read_only, fix)]
        )
        found += [one async for one in self._database()]
        for tenant_id in await self.store.tenants():
            found += [one async for one in self._tenant(tenant_id, fix)]
        return tuple(found)

    async def _database(self) -> AsyncIterator[Finding]:
        problems = await self.store.damages()
        for problem in problems:
            yield Finding(
                area="database",
                severity="failing",
                message=f"the database is damaged: {problem}",
                remedy="stop all programs that use the home, and restore the database from a copy",
            )
        if not problems:
            yield Finding(area="database", severity="ok", message="the database is intact")

    async def _tenant(self, tenant_id: str, fix: bool) -> AsyncIterator[Finding]:
        """The findings about the versions of a tenant. Nothing is trained."""
        champion = await self.registry.champion(tenant_id)
        if champion is None:
            return
        checked: set[str] = set()
        async for finding in self._repairable(tenant_id, champion, fix, checked):
            yield finding
        yield await self._answering(tenant_id, champion)
        for old in await self.registry.versions(tenant_id, limit=CHECKED_VERSIONS):
            if old.version not in checked and not old.removed:
                for finding in await call_in_executor(lambda old=old: list(_version(old, fix))):
                    yield finding
        for finding in await call_in_executor(lambda: list(_release(champion))):
            yield finding

    async def _repairable(
        self, tenant_id: str, champion: ModelVersion, fix: bool, checked: set[str]
    ) -> AsyncIterator[Finding]:
        """The champion and its parent, which are added to `checked`, as `repair` finds them."""
        plan = await self.repair.repair(tenant_id, dry_run=True)
        fixable = plan.action in ("restore", "back_up")
        fixed = fix and fixable and (await self.repair.repair(tenant_id)).done
        checked |= {check.version for check in plan.checks}
        for check in plan.checks:
            problem = check.problem or ("it has no backup" if check.backup == "missing" else None)
            if problem is not None:
                is_live = check.version == champion.version and check.files != "intact"
                yield Finding(
                    area="versions",
                    severity="failing" if is_live and not fixed else "warning",
                    message=f"{tenant_id}, {check.version}: {problem}",
                    remedy=None if fixed else _repair(tenant_id),
                    fixable=fixable,
                    fixed=fixed,
                )

    async def _answering(self, tenant_id: str, champion: ModelVersion) -> Finding:
        """Whether the live model can be loaded."""
        live = await self.champions.reload(tenant_id)
        if live is not None:
            return Finding(area="versions", severity="ok", message=f"{tenant_id}: {live.version} answers")
        failure = self.champions.failure(tenant_id)
        reason = failure.message if failure is not None else "it is not loaded"
        return Finding(
            area="versions",
            severity="failing",
            message=f"{tenant_id}: the live model {champion.version} does not answer: {reason}",
            remedy=_repair(tenant_id),
        )


def _repair(tenant_id: str) -> str:
    return f"`karen-learner repair {shlex.quote(tenant_id)}`"


def _version(version: ModelVersion, fix: bool) -> Iterator[Finding]:
    """A version that does not serve: a rollback needs its files."""
    check = check_version(version)
    if check.files == "intact":
        return
    fixable = check.backup == "present"
    fixed = fix and fixable and _restored(version)
    yield Finding(
        area="versions",
        severity="warning",
        message=f"{version.tenant_id}, {version.version}: {check.problem}",
        remedy=None if fixed else RESTORABLE if fixable else "do not roll back to it",
        fixable=fixable,
        fixed=fixed,
    )


def _restored(version: ModelVersion) -> bool:
    try:
        intact_manifest(version)
    except KarenLearnerError as error:
        logger.warning("%s is not restored: %s", version.version, error)
        return False
    return True


def _release(version: ModelVersion) -> Iterator[Finding]:
    """A model of another minor release of spaCy may answer differently."""
    try:
        trained = read_manifest(version.path).libraries.get("spacy", "")
    except KarenLearnerError:
        return
    installed = release_of("spacy")
    if trained and installed and trained.split(".")[:2] != installed.split(".")[:2]:
        yield Finding(
            area="versions",
            severity="warning",
            message=f"{version.tenant_id}, {version.version}: trained with spaCy {trained}, not {installed}",
            remedy=f"`karen-learner learn {shlex.quote(version.tenant_id)} --mode full --force` trains anew",
        )


def _home(layout: HomeLayout, read_only: str | None, fix: bool) -> Iterator[Finding]:
    """Permissions and disk. Blocking."""
    health = home_health(layout, read_only=read_only)
    wide = [problem for problem in health.problems if problem.remedy.startswith("chmod")]
    fixed = bool(fix and wide) and _made_private(layout)
    for problem in health.problems:
        is_wide = problem in wide
        yield Finding(
            area="home",
            severity=problem.severity,
            message=problem.message,
            remedy=None if is_wide and fixed else problem.remedy,
            fixable=is_wide,
            fixed=is_wide and fixed,
        )
    if not health.problems:
        yield Finding(area="home", severity="ok", message=f"{layout.home} is private and can be written")


def _made_private(layout: HomeLayout) -> bool:
    try:
        for folder in (layout.home, layout.backup_root, layout.corpus_root, layout.model_root):
            if open_to_others(folder):
                make_private(folder)
    except OSError as error:
        logger.warning("the permissions are not changed: %s", error)
        return False
    return True


def library_findings() -> Iterator[Finding]:
    """Python, spaCy and the optional libraries."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        area="libraries",
        severity="ok",
        message=f"Python {python}, spaCy {release_of('spacy')}, karen_learner {release_of('karen-learner')}",
    )
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if find_spec(name) is None]
        yield Finding(
            area="libraries",
            severity="ok",
            message=f"{extra}: {'not installed: ' + ', '.join(missing) if missing else 'installed'}",
            remedy=f"pip install 'karen-learner[{extra}]', for {NEEDED_FOR[extra]}" if missing else None,
        )
    if find_spec("weasyprint") is not None and (problem := pdf_problem()) is not None:
        yield Finding(area="libraries", severity="warning", message="PDF needs Pango", remedy=problem)


def unopened(error: KarenLearnerError, layout: HomeLayout, *, home_exists: bool) -> tuple[Finding, ...]:
    """The findings of a home whose learner does not start. Blocking."""
    found: list[Finding] = [*library_findings()]
    if home_exists:
        found += _home(layout, None, False)
    found.append(Finding(area="database", severity="failing", message=str(error)))
    return tuple(found)


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Whether nothing fails, apart from fixed problems."""
    return all(one.fixed or one.severity != "failing" for one in findings)
