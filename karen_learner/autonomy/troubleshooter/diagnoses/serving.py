"""Diagnoses of the model that serves: its files, its answers, its speed."""

from __future__ import annotations

from datetime import timedelta

from karen_learner.autonomy.troubleshooter.situation import Situation
from karen_learner.records.incidents import Examination

LATENCY_MAX_MS = 5_000.0
COLLAPSED_BELOW = 0.2
ANSWERED_FROM = 0.6
"""A label has collapsed below the first share, if the mean of the others reaches the second."""
RECENT = timedelta(hours=1)


def damaged_version(situation: Situation) -> Examination:
    """Files of the champion, or of the version for a rollback, are damaged or missing."""
    checks = situation.repair.checks if situation.repair is not None else ()
    is_live = bool(checks) and checks[0].files != "intact"
    parents = [one for one in checks[1:] if one.files != "intact" and one.backup == "present"]
    damaged = [*checks[: int(is_live)], *parents]  # a lost parent cannot be mended
    return Examination(
        present=bool(damaged) if checks else None,
        severity="critical" if is_live else "warning",
        reading="damaged_versions",
        value=float(len(damaged)),
        limit=0.0,
        summary=f"the files of {', '.join(one.version for one in damaged)} are not intact",
        facts={one.version: one.files for one in damaged},
    )


def degraded_mode(situation: Situation) -> Examination:
    """The fallback or the base pipeline answers in place of the champion."""
    status = situation.status
    if status is None or status.champion is None:
        return Examination(present=None, reading="served_by")
    health = status.health
    is_replaced = health.served_by in ("fallback", "base") or health.version is None
    return Examination(
        present=is_replaced and health.served_by != "analyzer",
        severity="critical",
        reading="served_by",
        summary=f"the {health.served_by} answers in place of {status.champion.version}",
        facts={"served_by": health.served_by, "champion": status.champion.version},
    )


def label_collapse(situation: Situation) -> Examination:
    """The live model does not answer one intent any more, although it answers the others."""
    probe = situation.probe
    if not probe or len(probe) < 2:
        return Examination(present=None, reading="label_probe")
    worst = min(probe.values())
    others = (sum(probe.values()) - worst) / (len(probe) - 1)
    collapsed = sum(share < COLLAPSED_BELOW for share in probe.values())
    return Examination(
        present=worst < COLLAPSED_BELOW and others >= ANSWERED_FROM,
        severity="critical",
        reading="label_probe",
        value=worst,
        limit=COLLAPSED_BELOW,
        summary=f"the live model answers {collapsed} of {len(probe)} intents wrong, on their own gold",
        facts={"others": others, "intents": len(probe)},
    )


def slow_analysis(situation: Situation) -> Examination:
    """The 95 % quantile of the latency of recent outcomes is certainly above five seconds."""
    reading = situation.readings.get("latency")
    since = situation.after or situation.now - RECENT
    times = sorted(
        one.duration_ms for one in situation.outcomes if one.duration_ms is not None and one.known_at > since
    )
    if len(times) >= 20:
        value, low = times[int(0.95 * len(times))], times[int(0.85 * len(times))]
    elif reading is not None and reading.value is not None and situation.after is None:
        value, low = reading.value, reading.low if reading.low is not None else reading.value
    else:
        return Examination(present=None, reading="latency")
    return Examination(
        present=low > LATENCY_MAX_MS,
        reading="latency",
        value=value,
        limit=LATENCY_MAX_MS,
        summary=f"95 % of the recent outcomes take up to {value:.0f} ms",
    )
