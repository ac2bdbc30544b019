"""The health of a tenant by component, from readings, open incidents and problems of serving."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Protocol, cast

from karen_learner.contracts import Clock, OutboxStore
from karen_learner.errors import InvalidInput
from karen_learner.improvement.grades import Limits, worst
from karen_learner.improvement.home import AnalysedHome, AnalysedLearner, AnalysisConfig
from karen_learner.metrics import Interval, wilson
from karen_learner.monitoring.notices import queue_notification
from karen_learner.monitoring.readings import Readings
from karen_learner.records import Alert, HealthProblem, TenantStatus, check_limit, utc_now
from karen_learner.records.improvement import (
    ComponentHealth,
    HealthDashboard,
    HealthPoint,
    HealthStatus,
    SystemHealth,
)
from karen_learner.records.incidents import Incident
from karen_learner.records.notifications import Notification, NotificationKind
from karen_learner.records.readings import Reading

COMPONENTS: Mapping[str, str] = {
    "accuracy": "understanding",
    "correction_rate": "understanding",
    "degradation": "understanding",
    "unknown_labels": "understanding",
    "out_of_scope_rate": "understanding",
    "input_drift": "understanding",
    "vocabulary": "understanding",
    "estimated_accuracy": "understanding",
    "label_distribution": "understanding",
    "failure_rate": "answering",
    "fallback_rate": "answering",
    "latency": "answering",
    "satisfaction": "answering",
    "response_quality": "answering",
    "error_pattern": "answering",
    "silent_source": "stream",
    "freshness": "learning",
}
SYSTEM = "system"
"""The component of all other readings, such as memory and free disk space, of incidents and of serving."""
OBSERVATIONS = "observations"
ESCALATE_AFTER = 3
HISTORY = "health_history"
MAX_HISTORY = 500
UNHEALTHY: frozenset[SystemHealth | None] = frozenset({"critical", "needs_attention"})

Problem = tuple[SystemHealth, str, str]
"""The health of one metric, its reason, and the name of the metric."""
Values = Mapping[str, Mapping[str, tuple[float, Interval]]]
"""Values and 95 % intervals by component and metric."""


class ServingLearner(AnalysedLearner, Protocol):
    """The part of a learner that health checks use."""

    async def status(self, tenant_id: str) -> TenantStatus: ...


class HealthMonitor(AnalysedHome):
    """Checks the health of one tenant, and tells people through the outbox.

    `alert_thresholds` change the limits (see `grades.DEFAULTS`). A reading fails its limit only if its whole
    95 % interval does, so that the amount of data decides. Notifications go to the targets of the settings;
    the service (`karen-learner run`) delivers them. `readings` are those of a service, which refreshes them.
    Raises InvalidInput.
    """

    def __init__(
        self,
        alert_thresholds: Mapping[str, float] | None = None,
        *,
        config: AnalysisConfig | None = None,
        learner: ServingLearner | None = None,
        clock: Clock = utc_now,
        readings: Readings | None = None,
    ) -> None:
        super().__init__(config, learner=learner, clock=clock)
        self._serving = learner
        self._limits = Limits({**self.config.alert_thresholds, **(alert_thresholds or {})})
        self._shared = readings
        self._readings = readings or Readings(self._memory, self._layout, self._settings)
        self._reading = asyncio.Lock()
        self._last: HealthStatus | None = None

    async def check_system_health(self, current_metrics: Mapping[str, float] | None = None) -> HealthStatus:
        """The health by component, with reasons; without metrics, see `health_of`.

        A key of `current_metrics` is a metric or `<component>.<metric>`. `observations` is the number behind
        them: shares then have an interval. Raises InvalidInput, UnknownTenant, StoreError.
        """
        await self._start()
        now = self._clock()
        if current_metrics is None:
            readings = await self._newest_readings(now)
            self._last = health_of(
                self.tenant_id,
                readings,
                incidents=await self._memory.unended_incidents(),
                problems=await self._serving_problems(),
                limits=self._limits,
                now=now,
            )
        else:
            self._last = _status(self.tenant_id, _of_metrics(current_metrics), self._limits, {}, now)
        await self._remember(self._last)
        return self._last

    async def trigger_alerts(self, status: HealthStatus | None = None) -> tuple[Alert, ...]:
        """Queue a notification for each unhealthy component, and the recovery of each other one.

        Without a status, of the last check, or of a new one. A problem is told once until its recovery.
        Returns the alerts. Raises the errors of `check_system_health`.
        """
        status = status or self._last or await self.check_system_health()
        for name, part in status.components.items():
            is_problem = part.system_health in UNHEALTHY
            words = (part.system_health or "unknown").replace("_", " ")
            await self._notify(
                Notification(
                    topic=f"health/{name}/{self.tenant_id}"[:300],
                    kind="problem" if is_problem else "recovery",
                    severity="critical" if part.system_health == "critical" else "warning",
                    title=f"{name} of {self.tenant_id}: {words}"[:300],
                    tenant_id=self.tenant_id,
                    facts={f"reason {number}": one for number, one in enumerate(part.reasons[:5], 1)},
                    at=status.checked_at,
                )
            )
        if status.system_health != "critical":
            await self._notify(self._escalation(f"{self.tenant_id} is not critical any more", "recovery"))
        return status.alerts

    async def escalate_critical_issues(self, consecutive_failures: int) -> bool:
        """Tell all targets about a tenant that stays critical; whether it was told now.

        It is told from three failed checks in a row. Raises InvalidInput, StoreError.
        """
        if check_limit(consecutive_failures, "consecutive_failures") < ESCALATE_AFTER:
            return False
        title = f"{self.tenant_id} is critical after {consecutive_failures} checks in a row"
        return await self._notify(self._escalation(title, "problem")) > 0

    async def generate_health_dashboard(self) -> HealthDashboard:
        """A new check, and the history of the health: its changes, and at most one point an hour."""
        status = await self.check_system_health()
        history = await self._memory.service_state(self.tenant_id, HISTORY) or []
        points = tuple(HealthPoint.model_validate(one) for one in history)
        return HealthDashboard(tenant_id=self.tenant_id, status=status, history=points)

    async def _newest_readings(self, now: datetime) -> Mapping[str, Reading]:
        if self._shared is not None:
            return self._shared.latest(self.tenant_id)
        async with self._reading:
            return await self._readings.refresh(self.tenant_id, now)

    async def _serving_problems(self) -> Iterable[HealthProblem]:
        """The problems of serving; none without a learner."""
        return () if self._serving is None else (await self._serving.status(self.tenant_id)).health.problems

    def _escalation(self, title: str, kind: NotificationKind) -> Notification:
        return Notification(
            topic=f"health/{self.tenant_id}"[:300],
            kind=kind,
            severity="critical",
            title=title[:300],
            tenant_id=self.tenant_id,
            at=self._clock(),
        )

    async def _notify(self, new: Notification) -> int:
        store = cast(OutboxStore, self._memory)
        return await queue_notification(store, self._settings.notifications, new, self._clock())

    async def _remember(self, status: HealthStatus) -> None:
        if self._memory.read_only is not None:
            return
        history = await self._memory.service_state(self.tenant_id, HISTORY) or []
        last = HealthPoint.model_validate(history[-1]) if history else None
        is_new = last is None or last.system_health != status.system_health
        if last is None or is_new or (status.checked_at - last.at).total_seconds() >= 3_600:
            point = HealthPoint(at=status.checked_at, system_health=status.system_health)
            await self._memory.set_service_state(
                self.tenant_id, HISTORY, [*history, point.to_dict()][-MAX_HISTORY:]
            )


def health_of(
    tenant_id: str,
    readings: Mapping[str, Reading],
    *,
    incidents: Iterable[Incident],
    problems: Iterable[HealthProblem],
    limits: Limits,
    now: datetime,
) -> HealthStatus:
    """The health of a tenant from its readings, unended incidents, and the problems of serving. Pure.

    Of an incident of the home only the type is told; those of other tenants are ignored.
    """
    further: dict[str, list[Problem]] = {}
    for one in readings.values():
        if one.alarm:
            reason = f"{one.name} has an alarm"
            further.setdefault(_component(one.name), []).append(("needs_attention", reason, one.name))
    system = further.setdefault(SYSTEM, [])
    for incident in incidents:
        if incident.tenant_id in (None, tenant_id):
            health: SystemHealth = "critical" if incident.severity == "critical" else "needs_attention"
            system.append((health, _reason(incident), incident.type))
    for problem in problems:
        health = "critical" if problem.severity == "failing" else "needs_attention"
        system.append((health, problem.message, "serving"))
    return _status(tenant_id, _of_readings(readings), limits, further, now)


def _reason(incident: Incident) -> str:
    kind = incident.type.replace("_", " ")
    if incident.tenant_id is None:
        return f"{kind} of the home"
    return f"{kind}: {incident.story[-1].text}" if incident.story else kind


def _status(
    tenant_id: str,
    values: Values,
    limits: Limits,
    further: Mapping[str, list[Problem]],
    now: datetime,
) -> HealthStatus:
    """The health by limits of metrics, and by further problems."""
    parts: dict[str, list[Problem]] = {}
    for name in (*values, *(one for one in further if further[one] and one not in values)):
        grades = limits.grades(name, values.get(name, {}))
        parts[name] = [(one.health, one.reason, one.metric) for one in grades] + list(further.get(name, ()))
    return HealthStatus(
        tenant_id=tenant_id,
        checked_at=now,
        system_health=worst(health for part in parts.values() for health, _, _ in part),
        components={name: _health(part, len(values.get(name, ()))) for name, part in parts.items()},
        alerts=tuple(_alerts(parts, now)),
    )


def _alerts(parts: Mapping[str, list[Problem]], now: datetime) -> Iterator[Alert]:
    for component, part in parts.items():
        for health, reason, metric in part:
            if health in UNHEALTHY:
                yield Alert(
                    level="critical" if health == "critical" else "warning",
                    reading=f"{component}.{metric}",
                    message=f"{component}: {reason}",
                    at=now,
                )


def _health(part: list[Problem], observations: int) -> ComponentHealth:
    health = worst(one for one, _, _ in part)
    return ComponentHealth(
        system_health=health,
        reasons=tuple(reason for one, reason, _ in part if one == health),
        observations=observations,
    )


def _component(metric: str) -> str:
    return COMPONENTS.get(metric, SYSTEM)


def _of_readings(readings: Mapping[str, Reading]) -> dict[str, dict[str, tuple[float, Interval]]]:
    """Values and intervals of the known readings, by component and name."""
    found: dict[str, dict[str, tuple[float, Interval]]] = {}
    for one in readings.values():
        part = found.setdefault(_component(one.name), {})
        if one.value is not None and one.low is not None and one.high is not None:
            part[one.name] = one.value, (one.low, one.high)
    return found


def _of_metrics(metrics: Mapping[str, float]) -> dict[str, dict[str, tuple[float, Interval]]]:
    """Values and intervals of given metrics, by component and name. Raises InvalidInput."""
    if not isinstance(metrics, Mapping):
        raise InvalidInput(f"current_metrics is a mapping of numbers, not {type(metrics).__name__}")
    for name, value in metrics.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not isinstance(name, str) or not name or not is_number or value != value:
            raise InvalidInput(f"the metric {name!r:.80} must be a number, not {value!r:.40}")
    count = metrics.get(OBSERVATIONS)
    found: dict[str, dict[str, tuple[float, Interval]]] = {}
    for name, value in metrics.items():
        if name == OBSERVATIONS:
            continue
        component, _, metric = name.rpartition(".")
        is_share = count is not None and count >= 1 and 0.0 <= value <= 1.0
        interval = wilson(value * (count or 0.0), count or 0.0) if is_share else (value, value)
        found.setdefault(component or _component(metric), {})[metric] = float(value), interval
    return found
