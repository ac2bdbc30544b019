"""Health of one tenant: the source of its analyses, the start of its service, and its problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from asyncio_extras import call_in_executor

from karen_learner.contracts import Analyzer, BasePipelineSource
from karen_learner.deployment import ChampionSync
from karen_learner.deployment.champion_sync import LoadFailure
from karen_learner.errors import ModelError
from karen_learner.models.backups import check_version
from karen_learner.models.live import LiveModels
from karen_learner.records import (
    HealthProblem,
    LearningCycleResult,
    ModelVersion,
    Server,
    TenantHealth,
    VersionCheck,
)

ANSWERS: Mapping[Server, str] = {
    "model": "another version answers",
    "base": "the base pipeline answers",
    "analyzer": "the analyzer of the host answers",
    "fallback": "the fallback answers",
}
REPAIR = "`karen-learner repair` restores it from a backup, or trains it anew"


class ServingHealth:
    """Compares the champion of a tenant with the model that answers in this process."""

    def __init__(self, analyzer: Analyzer, models: LiveModels, champions: ChampionSync) -> None:
        self._analyzer = analyzer
        self._models = models
        self._champions = champions

    async def of(
        self, tenant_id: str, champion: ModelVersion | None, recent: Sequence[LearningCycleResult]
    ) -> TenantHealth:
        """The health of a tenant. `recent` are its cycles and rollbacks, newest first.

        Reads the files of the champion. A champion that is not live yet counts as serving if they are intact:
        the first request loads it.
        """
        failed = next((one for one in recent if one.status == "failed"), None)
        error, at = (failed.error_message, _end(failed)) if failed is not None else (None, None)
        if champion is None:
            return TenantHealth(served_by=await self._without_champion(), last_error=error, last_error_at=at)
        check: VersionCheck = await call_in_executor(check_version, champion)
        failure = self._champions.failure(tenant_id)
        live = self._models.peek(tenant_id)
        problems = [*_file_problems(check, live=live is not None), *_cycle_problems(recent)]
        if failure is not None:
            error, at = failure.message, failure.at
        if live is None and (failure is not None or check.files != "intact"):
            reason = failure.message if failure is not None else check.problem
            server = await self._without_champion()
            if failure is not None or check.backup != "present":
                message = f"{champion.version} cannot be loaded, {ANSWERS[server]}: {reason}"
                problems.insert(0, HealthProblem(severity="failing", message=message, remedy=REPAIR))
            return TenantHealth(
                served_by=server,
                since=failure.at if check.changed_at is None and failure is not None else check.changed_at,
                reason=reason,
                last_error=error or reason,
                last_error_at=at or check.changed_at,
                problems=tuple(problems),
            )
        version = live.version if live is not None else champion.version
        return TenantHealth(
            served_by="model",
            version=version,
            since=_live_since(champion, recent),
            reason=_other_version(champion, version, failure),
            model_created_at=champion.created_at,
            last_error=error,
            last_error_at=at,
            problems=tuple(problems),
        )

    async def _without_champion(self) -> Server:
        """The source of the analyses of a tenant without a loadable champion."""
        if not isinstance(self._analyzer, BasePipelineSource):
            return "analyzer"
        try:
            return "fallback" if await self._analyzer.base_pipeline() is None else "base"
        except ModelError:
            return "fallback"


def _file_problems(check: VersionCheck, *, live: bool) -> Iterator[HealthProblem]:
    if check.files != "intact" and live:
        message = f"{check.version} serves from memory only: {check.problem}"
        yield HealthProblem(severity="warning", message=message, remedy=REPAIR)
    elif check.files != "intact" and check.backup == "present":
        message = f"{check.version} is not intact: {check.problem}"
        yield HealthProblem(
            severity="warning", message=message, remedy="the next request restores it from its backup"
        )
    if check.files == "intact" and check.backup == "missing":
        yield HealthProblem(
            severity="warning",
            message=f"{check.version} has no backup",
            remedy="the next learning cycle, or `karen-learner repair`, makes one",
        )


def _cycle_problems(recent: Sequence[LearningCycleResult]) -> Iterator[HealthProblem]:
    last = next((one for one in recent if one.status != "skipped"), None)
    if last is not None and last.status == "failed":
        yield HealthProblem(
            severity="warning",
            message=f"the last learning cycle failed: {last.error_message}",
            remedy="`karen-learner learn` runs another one; `karen-learner show` describes this one",
        )


def _other_version(champion: ModelVersion, version: str | None, failure: LoadFailure | None) -> str | None:
    """The reason for which another version than the champion answers."""
    if version == champion.version:
        return None
    if failure is not None:
        return f"the champion {champion.version} cannot be loaded: {failure.message}"
    return f"the champion {champion.version} is not loaded yet"


def _live_since(champion: ModelVersion, recent: Sequence[LearningCycleResult]) -> datetime:
    """The end of the deployment or rollback that made the version the champion.

    The duration of a cycle leaves its first write out: the sum may lie before the creation of the version.
    """
    for one in recent:
        if one.status in ("deployed", "rolled_back") and one.model_version == champion.version:
            return max(_end(one), champion.created_at)
    return champion.created_at


def _end(result: LearningCycleResult) -> datetime:
    return result.started_at + timedelta(seconds=result.duration_s)
