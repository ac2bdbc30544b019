"""Readings of the turns themselves: sources of answers, latency, silence, distribution of labels."""

from __future__ import annotations

import math
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import numpy as np

from karen_learner.metrics import Z_95, wilson
from karen_learner.monitoring.readings.sources import MIN_OBSERVATIONS, MONTH_DAYS, ONE_SIDED, Sources
from karen_learner.records.readings import Reading

SILENCE = 2.0
"""A source is silent after this many times its longest gap."""
MIN_GAPS = 100
LEVEL = 0.01
"""The level of permutation tests."""
PERMUTATIONS = 199
MIN_LABELLED = 100


def fallback_rate(sources: Sources) -> Reading:
    """Share of turns that the fallback answered."""
    return _share(sources, "fallback_rate", sum(one.degraded for one in sources.turns), len(sources.turns))


def out_of_scope_rate(sources: Sources) -> Reading:
    """Share of the turns that a model answered which it found out of scope."""
    answered = [one for one in sources.turns if not one.degraded]
    return _share(sources, "out_of_scope_rate", sum(one.out_of_scope for one in answered), len(answered))


def _share(sources: Sources, name: str, hits: int, count: int) -> Reading:
    if count < MIN_OBSERVATIONS:
        return sources.reading(name, None, unit="share", direction="higher_is_worse", observations=count)
    return sources.reading(
        name,
        hits / count,
        unit="share",
        direction="higher_is_worse",
        interval=wilson(hits, count),
        observations=count,
        false_alarms_per_month=ONE_SIDED * sources.windows_per_month([one.at for one in sources.turns]),
    )


def latency(sources: Sources) -> Reading:
    """The 95 % quantile of the latency of outcomes, with an interval from order statistics."""
    timed = [one for one in sources.outcomes if one.duration_ms is not None]
    values = sorted(one.duration_ms or 0.0 for one in timed)
    count = len(values)
    if count < MIN_OBSERVATIONS:
        return sources.reading(
            "latency", None, unit="milliseconds", direction="higher_is_worse", observations=count
        )
    middle, half = 0.95 * count, Z_95 * math.sqrt(0.95 * 0.05 * count)
    ranks = [min(count - 1, max(0, int(at))) for at in (middle - half, middle, middle + half)]
    low, value, high = (values[rank] for rank in ranks)
    return sources.reading(
        "latency",
        value,
        unit="milliseconds",
        direction="higher_is_worse",
        interval=(low, high),
        observations=count,
        false_alarms_per_month=ONE_SIDED * sources.windows_per_month([one.known_at for one in timed]),
    )


def silent_source(sources: Sources) -> Reading:
    """Days since the newest turn, compared with twice the longest gap between the turns of the window.

    With exchangeable gaps, one exceeds the longest of n earlier ones with the chance 1 / (n + 1).
    """
    times = sorted(one.at for one in sources.turns)
    if len(times) <= MIN_GAPS:
        return sources.reading(
            "silent_source", None, unit="days", direction="higher_is_worse", observations=len(times)
        )
    gaps = [(after - before) / timedelta(days=1) for before, after in pairwise(times)]
    days = max((sources.now - times[0]) / timedelta(days=1), 1 / 24)
    silence, limit = max(0.0, (sources.now - times[-1]) / timedelta(days=1)), SILENCE * max(gaps)
    return sources.reading(
        "silent_source",
        silence,
        unit="days",
        direction="higher_is_worse",
        reference=limit,
        observations=len(gaps),
        alarm=silence > limit,
        false_alarms_per_month=MONTH_DAYS / days,
    )


def label_distribution(sources: Sources) -> Reading:
    """Total variation distance between the intents of the newer and of the older half of the turns.

    Only turns that the newest version answered, so that another model is no change of the distribution. The
    alarm is a permutation test at the level 0.01.
    """
    version = sources.turns[-1].version if sources.turns else None
    answered = [one for one in sources.turns if one.version == version and one.intent is not None]
    count = len(answered)
    if count < MIN_LABELLED:
        return sources.reading(
            "label_distribution", None, unit="share", direction="neutral", observations=count
        )
    names = {name: at for at, name in enumerate(sorted({one.intent or "" for one in answered}))}
    labels = np.array([names[one.intent or ""] for one in answered])
    half, random = count // 2, np.random.default_rng(0)
    distance = _distance(labels, half, len(names))
    larger = sum(
        _distance(random.permutation(labels), half, len(names)) >= distance for _ in range(PERMUTATIONS)
    )
    p_value = (1 + larger) / (1 + PERMUTATIONS)
    changes = np.bincount(labels[half:], minlength=len(names)) / (count - half) - (
        np.bincount(labels[:half], minlength=len(names)) / half
    )
    most = int(np.argmax(np.abs(changes)))
    return sources.reading(
        "label_distribution",
        distance,
        unit="share",
        direction="neutral",
        observations=count,
        alarm=p_value <= LEVEL,
        false_alarms_per_month=LEVEL * sources.windows_per_month([one.at for one in answered]),
        detail={
            "p": p_value,
            "label": sorted(names)[most],
            "change": float(changes[most]),
            "labels": len(Counter(labels.tolist())),
        },
    )


def _distance(labels: np.ndarray, half: int, size: int) -> float:
    older = np.bincount(labels[:half], minlength=size) / half
    newer = np.bincount(labels[half:], minlength=size) / (len(labels) - half)
    return float(np.abs(older - newer).sum() / 2.0)
