"""The lifecycle of an incident: open, remedies one after the other, verification, undo, escalation, end."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import datetime, timedelta

from karen_learner.autonomy.notifications import Notifier
from karen_learner.autonomy.troubleshooter.diagnoses import Diagnosis
from karen_learner.autonomy.troubleshooter.remedies import Care, Remedy
from karen_learner.autonomy.troubleshooter.remedies.remedy import Facts, Token
from karen_learner.autonomy.troubleshooter.remedies.tuning import adjustment
from karen_learner.contracts import IncidentStore
from karen_learner.errors import KarenLearnerError, StoreError
from karen_learner.memory import owner_of
from karen_learner.memory.leases import is_alive
from karen_learner.records.incidents import Examination, Incident, RemedyPause
from karen_learner.records.notifications import Notification, NotificationKind
from karen_learner.settings import Settings, TroubleshooterSettings

logger = logging.getLogger(__name__)

APPLYING_FOR = timedelta(hours=12)
"""A remedy that is still `applying` after this time was interrupted by a crash."""
MEMORY = timedelta(days=7)
"""Earlier incidents whose attempts count: a problem that returns does not start the remedies anew."""


class IncidentLifecycle:
    """Moves incidents from one state to the next, one step for each examination.

    The next state is stored before its act. If another process has changed the incident meanwhile, nothing is
    done. A crash leaves a stored state that the next step continues.
    """

    def __init__(
        self,
        store: IncidentStore,
        notifier: Notifier,
        settings: TroubleshooterSettings,
        remedies: Mapping[str, Remedy],
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._settings = settings
        self._remedies = remedies

    async def advance(
        self,
        care: Care,
        name: str,
        diagnosis: Diagnosis,
        found: Examination,
        incident: Incident | None,
        *,
        may_apply: bool,
    ) -> Incident | None:
        """The incident after one step; None if there is no problem. Raises StoreError."""
        now = care.situation.now
        if incident is None:
            if not found.present:
                return None
            incident = await self._store.save_incident(self._opened(care, name, found))
            if incident is None:  # another process has opened it
                return None
        if incident.state == "applying":
            return await self._continue(care, incident, now)
        if incident.state == "verifying":
            incident = await self._verify(care, diagnosis, found, incident)
        elif found.present is False:
            return await self._end(care, incident, found, "the problem has ended")
        if incident.state == "open" and found.present and may_apply and now >= incident.next_at:
            incident = await self._treat(care, diagnosis, found, incident)
        if incident.state == "escalated" and found.present:
            await self._tell(incident, found, now)
        return incident

    # Opening ---------------------------------------------------------------------------------

    def _opened(self, care: Care, name: str, found: Examination) -> Incident:
        now = care.situation.now
        opened = Incident(
            tenant_id=care.situation.tenant_id,
            type=name,
            severity=found.severity,
            opened_at=now,
            updated_at=now,
            next_at=now,
        )
        return opened.told(now, "reading", _reading(found), _numbers(found)).told(
            now, "diagnosis", f"{name}: {found.summary}", found.facts
        )

    # Remedies --------------------------------------------------------------------------------

    async def _treat(
        self, care: Care, diagnosis: Diagnosis, found: Examination, incident: Incident
    ) -> Incident:
        """Apply the first remedy that was not tried, or escalate."""
        now = care.situation.now
        pauses = await self._store.paused_remedies()
        tried = {**(await self._earlier_attempts(incident, now)), **incident.attempts}
        for name in diagnosis.remedies:
            remedy = self._remedies.get(name)
            if (
                remedy is None
                or tried.get(name, 0) >= self._settings.max_attempts
                or name in incident.attempts
            ):
                continue
            if any(_is_paused(pause, name, incident.tenant_id, now) for pause in pauses):
                continue
            token = await self._prepared(care, name, remedy)
            if token is not None:
                return await self._apply(care, diagnosis, name, remedy, token, incident)
        return await self._escalate(incident, found, now)

    async def _earlier_attempts(self, incident: Incident, now: datetime) -> Mapping[str, int]:
        """The attempts of earlier incidents of the same problem within a week."""
        earlier = await self._store.newest_incidents(incident.tenant_id, since=now - MEMORY, limit=200)
        counts: dict[str, int] = {}
        for one in earlier:
            is_same = one.type == incident.type and one.tenant_id == incident.tenant_id
            if is_same and one.incident_id != incident.incident_id:
                for name, count in one.attempts.items():
                    counts[name] = counts.get(name, 0) + count
        return counts

    async def _prepared(self, care: Care, name: str, remedy: Remedy) -> Token | None:
        try:
            return await remedy.prepare(care)
        except StoreError:
            raise
        except Exception:  # a remedy of a host is foreign code
            logger.exception("the remedy %r cannot be prepared", name)
            return None

    async def _apply(
        self,
        care: Care,
        diagnosis: Diagnosis,
        name: str,
        remedy: Remedy,
        token: Token,
        incident: Incident,
    ) -> Incident:
        now = care.situation.now
        attempts = {**incident.attempts, name: incident.attempts.get(name, 0) + 1}
        applying = incident.with_(
            state="applying", remedy=name, token=dict(token), attempts=attempts, applied_at=now,
            next_at=now + APPLYING_FOR, seen_cycle=care.situation.newest_cycle, owner=owner_of(os.getpid()),
        ).told(now, "remedy", f"{name}: {remedy.solution}")  # fmt: skip
        saved = await self._store.save_incident(applying)
        if saved is None:
            return incident
        logger.warning("incident %s (%s): %s", saved.incident_id, saved.type, remedy.solution)
        facts, failure = await self._act(remedy, care, token)
        if remedy.is_notable and failure is None:
            await self._notice(saved, f"{saved.type}: {remedy.solution}", facts, now)
        if failure is not None:
            return await self._failed(care, saved, failure)
        verifying = saved.told(now, "remedy", f"{name} is applied", facts).with_(
            state="verifying", next_at=now + max(diagnosis.settle, diagnosis.patience)
        )
        return await self._saved(verifying)

    async def _act(self, remedy: Remedy, care: Care, token: Token) -> tuple[Facts, str | None]:
        try:
            return await remedy.apply(care, token), None
        except KarenLearnerError as error:
            logger.warning("a remedy failed: %s", error)
            return {}, type(error).__name__
        except Exception as error:  # a remedy of a host is foreign code, and its message may quote texts
            logger.exception("a remedy failed")
            return {}, type(error).__name__

    async def _failed(self, care: Care, incident: Incident, failure: str) -> Incident:
        told = incident.told(care.situation.now, "failure", f"{incident.remedy} failed: {failure}")
        return await self._undone(care, told)

    async def _continue(self, care: Care, incident: Incident, now: datetime) -> Incident:
        """After a crash during a remedy, undo what it may have done. Another process may still apply it."""
        if now < incident.next_at and incident.owner is not None and is_alive(incident.owner):
            return incident
        return await self._undone(care, incident.told(now, "failure", f"{incident.remedy} was interrupted"))

    # Verification ----------------------------------------------------------------------------

    async def _verify(
        self, care: Care, diagnosis: Diagnosis, found: Examination, incident: Incident
    ) -> Incident:
        """Compare the reading that raised the incident with its limit, after the remedy."""
        now = care.situation.now
        applied = incident.applied_at or now
        if found.present is False and now - applied >= diagnosis.settle:
            return await self._end(care, incident, found, f"{incident.remedy} has helped")
        is_there = found.present is True and now - applied >= diagnosis.settle
        if not is_there and now < incident.next_at:
            return incident
        result = "cannot be verified" if found.present is None else "has not helped"
        told = incident.told(
            now, "verification", f"{incident.remedy} {result}: {_reading(found)}", _numbers(found)
        )
        return await self._undone(care, told)

    async def _undone(self, care: Care, incident: Incident) -> Incident:
        """Undo the present remedy, and wait before the next one."""
        now = care.situation.now
        name = incident.remedy or ""
        remedy = self._remedies.get(name)
        if remedy is not None and remedy.undo is not None and incident.token is not None:
            try:
                facts = await remedy.undo(care, incident.token)
                incident = incident.told(now, "undo", f"{name} is undone", facts)
            except Exception as error:
                logger.warning("the remedy %r cannot be undone", name, exc_info=True)
                incident = incident.told(now, "undo", f"{name} cannot be undone: {type(error).__name__}")
        tried = sum(incident.attempts.values())
        wait = timedelta(seconds=self._settings.retry_s * 4.0 ** min(tried - 1, 8))
        return await self._saved(
            incident.with_(
                state="open",
                remedy=None,
                token=None,
                applied_at=None,
                seen_cycle=None,
                owner=None,
                next_at=now + wait,
            )
        )

    # Ends ------------------------------------------------------------------------------------

    async def _end(self, care: Care, incident: Incident, found: Examination, why: str) -> Incident:
        now = care.situation.now
        kept = dict(incident.kept)
        remedy = self._remedies.get(incident.remedy or "")
        if incident.remedy and incident.token is not None and remedy is not None and remedy.is_setting:
            kept[incident.remedy] = incident.token
        if incident.state == "verifying":
            incident = incident.told(now, "verification", f"{_reading(found)}: {why}", _numbers(found))
        was_escalated = incident.state == "escalated"
        ended = incident.told(now, "recovery", why).with_(
            state="resolved",
            ended_at=now,
            remedy=None,
            token=None,
            kept=kept,
            seen_cycle=care.situation.newest_cycle,
        )
        saved = await self._store.save_incident(ended)
        if saved is None:
            return incident
        if was_escalated:
            await self._notify(saved, found, now, kind="recovery")
        return saved

    async def _escalate(self, incident: Incident, found: Examination, now: datetime) -> Incident:
        tried = ", ".join(incident.attempts) or "none"
        told = incident.told(now, "escalation", f"people decide: no remedy is left (tried: {tried})")
        return await self._saved(told.with_(state="escalated", severity=found.severity))

    async def end_kept(self, settings: Settings, now: datetime) -> None:
        """Restore the settings that remedies changed longer ago than `troubleshooter.keep_days`."""
        oldest = now - timedelta(days=self._settings.keep_days)
        for incident in await self._store.newest_incidents(None, since=oldest - MEMORY, limit=1_000):
            if incident.ended_at is None or incident.ended_at > oldest or not incident.kept:
                continue
            for token in incident.kept.values():
                if (one := adjustment(incident.tenant_id, token)) is not None:
                    settings.end_adjustment(one)
            names = ", ".join(incident.kept)
            await self._store.save_incident(
                incident.told(now, "undo", f"{names}: the former settings are back").with_(kept={})
            )

    async def _saved(self, changed: Incident) -> Incident:
        """The stored incident. If another process has changed it, its version stays, and this one is lost."""
        saved = await self._store.save_incident(changed)
        if saved is None:
            logger.warning("incident %s changed at the same moment", changed.incident_id)
        return saved or changed

    # Notifications ---------------------------------------------------------------------------

    async def _tell(self, incident: Incident, found: Examination, now: datetime) -> None:
        """Report an escalated incident, unless a person knows it or has silenced it."""
        is_silent = incident.silenced_until is not None and now < incident.silenced_until
        if incident.acknowledged is None and not is_silent:
            await self._notify(incident, found, now, kind="problem")

    async def _notify(
        self, incident: Incident, found: Examination, now: datetime, *, kind: NotificationKind
    ) -> None:
        tried = ", ".join(incident.attempts) or "none"
        await self._queue(
            Notification(
                topic=f"incident:{incident.incident_id}",
                kind=kind,
                severity=found.severity if kind == "problem" else incident.severity,
                title=f"{incident.type}: {found.summary}"
                if kind == "problem"
                else f"{incident.type} has ended",
                tenant_id=incident.tenant_id,
                facts={"incident": incident.incident_id, "remedies_tried": tried, **_numbers(found)},
                at=now,
            ),
            now,
        )

    async def _notice(self, incident: Incident, title: str, facts: Facts, now: datetime) -> None:
        await self._queue(
            Notification(
                topic=f"incident:{incident.incident_id}",
                kind="notice",
                title=title,
                tenant_id=incident.tenant_id,
                facts={"incident": incident.incident_id, **facts},
                at=now,
            ),
            now,
        )

    async def _queue(self, new: Notification, now: datetime) -> None:
        try:
            await self._notifier.notify(new, now)
        except StoreError as error:  # a full disk: the incident itself matters more
            logger.error("a notification cannot be stored (%s): %s", type(error).__name__, new.title)


def _is_paused(pause: RemedyPause, name: str, tenant_id: str | None, now: datetime) -> bool:
    is_active = pause.until is None or now < pause.until
    return is_active and pause.remedy == name and pause.tenant_id in (None, tenant_id)


def _reading(found: Examination) -> str:
    if found.value is None:
        return found.reading
    limit = "" if found.limit is None else f" (limit {found.limit:.4g})"
    return f"{found.reading} is {found.value:.4g}{limit}"


def _numbers(found: Examination) -> Facts:
    return {"reading": found.reading, "value": found.value, "limit": found.limit}
