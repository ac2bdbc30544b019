"""`AutomatedTroubleshooter`: examines tenants and the home, applies remedies, verifies and undoes them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

from karen_learner.autonomy.notifications import Notifier
from karen_learner.autonomy.troubleshooter.diagnoses import DIAGNOSES, Diagnosis
from karen_learner.autonomy.troubleshooter.incident_lifecycle import IncidentLifecycle
from karen_learner.autonomy.troubleshooter.operator_actions import OperatorActions
from karen_learner.autonomy.troubleshooter.remedies import REMEDIES, Care
from karen_learner.autonomy.troubleshooter.remedies.tuning import repeat
from karen_learner.autonomy.troubleshooter.situation import Mendable, Observer, Situation, Stream
from karen_learner.contracts import Clock
from karen_learner.errors import KarenLearnerError
from karen_learner.events import Event, StageStarted, TrainingProgressed
from karen_learner.monitoring.trends import History
from karen_learner.records import utc_now
from karen_learner.records.incidents import Examination, Incident, Issue
from karen_learner.records.readings import Reading

logger = logging.getLogger(__name__)

ReadingSource = Callable[[str, datetime], Awaitable[Mapping[str, Reading]]]
"""The readings of a tenant at a time, by name. `monitoring.readings.Readings.refresh` is one."""
SPACING = timedelta(hours=1)
"""Time between two values in the history of a reading."""
RETENTION = timedelta(days=90)
HOME = ""
TRENDS = ("accuracy", "latency", "memory")


class AutomatedTroubleshooter:
    """Finds and mends problems of one tenant and its home, of several `tenants`, or of all.

    `learner` is a started or new learner, `readings` the source of readings, `notifier` tells people. With a
    `stream`, its lag and connection are examined too. Times come from `clock`; `tick` takes the time of its
    caller. Several troubleshooters, also of different processes, may serve one home: each change of an
    incident is compared with the stored one. Raises SettingsError for unknown diagnoses.
    """

    def __init__(
        self,
        learner: Mendable,
        *,
        tenant_id: str | None = None,
        tenants: Sequence[str] = (),
        readings: ReadingSource | None = None,
        notifier: Notifier | None = None,
        stream: Stream | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._learner = learner
        self._tenant_id = tenant_id
        self._tenants = tuple(tenants) if tenant_id is None else (tenant_id,)
        self._readings = readings
        self._stream = stream
        self._clock = clock
        self._settings = learner.settings.troubleshooter
        self._diagnoses = DIAGNOSES.find_all(self._settings.diagnoses)
        self._remedies = REMEDIES.find_all()
        self._notifier = notifier or Notifier(learner.store, learner.settings.notifications)
        self._observer = Observer(learner, stream)
        self._lifecycle = IncidentLifecycle(learner.store, self._notifier, self._settings, self._remedies)
        self._histories: dict[str, dict[str, History]] = {}
        self._ended: dict[tuple[str | None, str], str | None] = {}
        self._examined_at: datetime | None = None
        self._pruned_at: datetime | None = None
        self._end_subscription: Callable[[], None] | None = None
        self._has_started = False
        self.operator_actions = OperatorActions(learner.store)
        """Actions of people on incidents: acknowledge, silence, pause a remedy."""

    # Lifecycle -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Repeat the setting changes that helped before a restart, and follow running cycles. Idempotent."""
        if self._has_started:
            return
        await self._learner.start()
        self._has_started = True
        self._end_subscription = self._learner.events.subscribe(self._on_event)
        since = self._clock() - timedelta(days=self._settings.keep_days)
        for incident in reversed(await self._learner.store.newest_incidents(None, since=since, limit=1_000)):
            repeat(self._learner.settings, incident)
            self._note_end(incident)

    async def stop(self) -> None:
        """End the subscription. Incidents are stored. Idempotent."""
        if self._end_subscription is not None:
            self._end_subscription()
            self._end_subscription = None
        self._has_started = False

    def _on_event(self, event: Event) -> None:
        if isinstance(event, (TrainingProgressed, StageStarted)):
            self._observer.progress[event.tenant_id] = self._clock()

    # Work ------------------------------------------------------------------------------------

    async def tick(self, now: datetime) -> tuple[Issue, ...]:
        """Examine and mend, once in `troubleshooter.interval_s`. Errors of one tenant do not stop the others.

        A remedy that trains is awaited. Deliveries of notifications are the task of `Notifier.tick`.
        """
        interval = timedelta(seconds=self._settings.interval_s)
        if self._examined_at is not None and timedelta(0) <= now - self._examined_at < interval:
            return ()
        self._examined_at = now
        return await self._run(now, act=True)

    async def diagnose_and_fix(self, *, dry_run: bool = False) -> tuple[Issue, ...]:
        """Examine now, and apply the next remedy of each problem that is due. The problems that are there.

        With `dry_run` nothing is changed or stored; `next_remedy` names what would be applied. Raises
        StoreError if the home cannot be read.
        """
        await self.start()
        return await self._run(self._clock(), act=not dry_run)

    async def _run(self, now: datetime, *, act: bool) -> tuple[Issue, ...]:
        await self.start()
        home = await self._observer.home(now, self._histories.setdefault(HOME, {}))
        self._remember(HOME, {"disk_free": float(home.home.disk.free)}, now)
        stored = await self._learner.store.unended_incidents()
        issues = await self._examine(home, stored, act=act)
        for tenant_id in self._tenants or await self._learner.tenants():
            try:
                situation = await self._situation(tenant_id, home)
                issues += await self._examine(situation, stored, act=act)
            except KarenLearnerError as error:
                if self._tenant_id is not None:
                    raise
                logger.warning("%r cannot be examined: %s", tenant_id, type(error).__name__)
        if act:
            await self._clean_up(now)
        return tuple(issues)

    async def _again(self, former: Situation) -> Situation:
        """The situation after a remedy."""
        home = await self._observer.home(former.now, self._histories.setdefault(HOME, {}))
        return home if former.tenant_id is None else await self._situation(former.tenant_id, home)

    async def _situation(self, tenant_id: str, home: Situation) -> Situation:
        readings: Mapping[str, Reading] = {}
        if self._readings is not None:
            readings = await self._readings(tenant_id, home.now)
        values = {name: readings[name].value for name in TRENDS if name in readings}
        self._remember(tenant_id, {name: one for name, one in values.items() if one is not None}, home.now)
        return await self._observer.tenant(tenant_id, home, readings, self._histories.get(tenant_id, {}))

    def _remember(self, owner: str, values: Mapping[str, float], now: datetime) -> None:
        histories = self._histories.setdefault(owner, {})
        for name, value in values.items():
            histories.setdefault(name, History(SPACING)).add(now, value)

    async def _examine(self, situation: Situation, stored: Sequence[Incident], *, act: bool) -> list[Issue]:
        """Examine one tenant or the home, and continue its incidents."""
        scope = "home" if situation.tenant_id is None else "tenant"
        mine = {one.type: one for one in stored if one.tenant_id == situation.tenant_id}
        busy = {
            self._diagnoses[name].area: name
            for name, one in mine.items()
            if one.state in ("applying", "verifying") and name in self._diagnoses
        }
        issues: list[Issue] = []
        for name, diagnosis in self._diagnoses.items():
            if diagnosis.scope != scope:
                continue
            incident = mine.get(name)
            found = self._examined(name, diagnosis, situation, incident)
            if act:
                may_apply = busy.get(diagnosis.area, name) == name
                incident, situation = await self._advance(situation, name, found, incident, may_apply)
                if incident is not None:
                    self._note_end(incident)
                if incident is not None and incident.state in ("applying", "verifying"):
                    busy[diagnosis.area] = name
            if found.present:
                issues.append(self._issue(name, diagnosis, situation, found, incident))
        return issues

    async def _advance(
        self,
        situation: Situation,
        name: str,
        found: Examination,
        incident: Incident | None,
        may_apply: bool,
    ) -> tuple[Incident | None, Situation]:
        """The incident after one step, and after the first verification of a remedy of this step."""
        diagnosis, lifecycle = self._diagnoses[name], self._lifecycle
        was = incident.state if incident is not None else None
        care = Care(self._learner, situation, self._stream)
        incident = await lifecycle.advance(care, name, diagnosis, found, incident, may_apply=may_apply)
        if incident is not None and incident.state == "verifying" and was != "verifying":
            situation = await self._again(situation)
            found = self._examined(name, diagnosis, situation, incident)
            care = Care(self._learner, situation, self._stream)
            incident = await lifecycle.advance(care, name, diagnosis, found, incident, may_apply=False)
        return incident, situation

    def _examined(
        self, name: str, diagnosis: Diagnosis, situation: Situation, incident: Incident | None
    ) -> Examination:
        """The result of a diagnosis. One that fails is unknown and logged: the others go on.

        Cycles before the end of the last incident of this type do not count again.
        """
        try:
            if incident is not None and incident.remedy is not None:
                situation = situation.since(incident.applied_at, incident.seen_cycle)
            else:
                situation = situation.since(None, self._ended.get((situation.tenant_id, name)))
            return diagnosis.find(situation)
        except Exception:  # a diagnosis of a host is foreign code
            logger.exception("the diagnosis %r failed", name)
            return Examination(present=None, reading=name)

    def _note_end(self, incident: Incident) -> None:
        if incident.ended_at is not None:
            self._ended[incident.tenant_id, incident.type] = incident.seen_cycle

    def _issue(
        self,
        name: str,
        diagnosis: Diagnosis,
        situation: Situation,
        found: Examination,
        incident: Incident | None,
    ) -> Issue:
        remedies = [one for one in diagnosis.remedies if one in self._remedies]
        tried = incident.attempts if incident is not None else {}
        in_work = incident.remedy if incident is not None else None
        return Issue(
            type=name,
            severity=found.severity,
            solutions=tuple(self._remedies[one].solution for one in remedies) or ("people decide",),
            tenant_id=situation.tenant_id,
            summary=found.summary,
            facts=found.facts,
            incident_id=incident.incident_id if incident is not None else None,
            state=incident.state if incident is not None else None,
            next_remedy=in_work or next((one for one in remedies if one not in tried), None),
        )

    async def _clean_up(self, now: datetime) -> None:
        if self._pruned_at is None or abs(now - self._pruned_at) > timedelta(hours=6):
            self._pruned_at = now
            await self._learner.store.prune_incidents(before=now - RETENTION)
            await self._lifecycle.end_kept(self._learner.settings, now)

    async def incidents(self, *, limit: int = 100) -> Sequence[Incident]:
        """The newest incidents, newest first."""
        return await self._learner.store.newest_incidents(self._tenant_id, limit=limit)
