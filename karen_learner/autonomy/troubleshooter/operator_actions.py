"""Actions of operators on incidents: acknowledge, silence, pause a remedy. Each has a reason."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from karen_learner.autonomy.troubleshooter.remedies import REMEDIES
from karen_learner.contracts import IncidentStore
from karen_learner.errors import InvalidInput, UnknownIncident
from karen_learner.records.base import replace_unfit
from karen_learner.records.incidents import Incident, RemedyPause

MAX_REASON_CHARS = 500
MAX_HOURS = 24.0 * 366


class OperatorActions:
    """Actions of operators on incidents. Each is an entry of the story, or a stored pause."""

    def __init__(self, store: IncidentStore) -> None:
        self._store = store

    async def find(self, part: str, *, tenant_ids: Sequence[str | None] | None = None) -> Incident:
        """The incident whose id begins or ends with a part. Raises UnknownIncident, InvalidInput.

        With `tenant_ids`, those of other tenants are unknown. None among them is the home.
        """
        if not isinstance(part, str) or not part.isalnum() or len(part) > 64:
            raise InvalidInput(f"an incident has an id of letters and digits, not {part!r:.80}")
        found = await self._store.find_incidents(part, tenant_ids=tenant_ids)
        if not found:
            raise UnknownIncident(f"there is no incident {part!r}: see `karen-learner incidents`")
        if len(found) > 1:
            raise InvalidInput(f"{part!r} names {len(found)} incidents: give more characters")
        return found[0]

    async def acknowledge(self, part: str, reason: str, *, now: datetime) -> Incident:
        """Record that a person knows an incident: it is not reported again. Remedies go on."""
        reason = checked_reason(reason)
        incident = _require_open(await self.find(part))
        changed = incident.told(now, "person", f"acknowledged: {reason}").with_(acknowledged=reason)
        return await self._save(changed)

    async def silence(self, part: str, reason: str, *, hours: float, now: datetime) -> Incident:
        """Send no notifications about an incident for some hours. Remedies go on."""
        reason = checked_reason(reason)
        until = now + _hours(hours)
        incident = _require_open(await self.find(part))
        changed = incident.told(now, "person", f"silenced for {hours:g} hours: {reason}")
        return await self._save(changed.with_(silenced_until=until))

    async def pause(
        self,
        remedy: str,
        reason: str,
        *,
        now: datetime,
        tenant_id: str | None = None,
        hours: float | None = None,
    ) -> RemedyPause:
        """Let a remedy not be applied, for one tenant or all, for some hours or until `resume`."""
        reason = checked_reason(reason)
        if remedy not in REMEDIES:
            raise InvalidInput(f"there is no remedy {remedy!r:.80}: known are {', '.join(REMEDIES.names())}")
        until = None if hours is None else now + _hours(hours)
        new = RemedyPause(remedy=remedy, tenant_id=tenant_id, reason=reason, at=now, until=until)
        await self._store.pause_remedy(new)
        return new

    async def resume(self, remedy: str, *, tenant_id: str | None = None) -> bool:
        """End a pause; whether there was one."""
        return await self._store.resume_remedy(remedy, tenant_id)

    async def _save(self, changed: Incident) -> Incident:
        saved = await self._store.save_incident(changed)
        if saved is None:
            raise InvalidInput(f"the incident {changed.incident_id} changed at the same moment: repeat it")
        return saved


def checked_reason(reason: str) -> str:
    """The reason of a person: 1 to 500 characters. Raises InvalidInput."""
    if not isinstance(reason, str) or not reason.strip() or len(reason) > MAX_REASON_CHARS:
        raise InvalidInput(f"a reason is a text of 1 to {MAX_REASON_CHARS} characters")
    return replace_unfit(reason.strip())


def _require_open(incident: Incident) -> Incident:
    if incident.ended_at is not None:
        raise InvalidInput(f"the incident {incident.incident_id} has ended")
    return incident


def _hours(hours: float) -> timedelta:
    if isinstance(hours, bool) or not isinstance(hours, (int, float)) or not 0 < hours <= MAX_HOURS:
        raise InvalidInput(f"hours are a number above 0 and up to {MAX_HOURS:g}, not {hours!r:.40}")
    return timedelta(hours=hours)
