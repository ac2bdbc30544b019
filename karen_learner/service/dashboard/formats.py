"""Values as text: shares, numbers, times, intervals. Filters of the templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from karen_learner.records import utc_now

NOTHING = "–"
THIN = "\u202f"
"""Narrow space without a line break, before a unit."""
WORDS = {"rolled_back": "rolled back", "too_close": "too close to call", "needs_attention": "needs attention"}
STEPS = ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (float("inf"), 86_400, "d"))


def share(value: float | None, digits: int = 1) -> str:
    """A share as percent."""
    return NOTHING if value is None else f"{100 * value:.{digits}f}{THIN}%"


def points(value: float | None, digits: int = 1) -> str:
    """A difference of shares in percentage points, with its sign."""
    return NOTHING if value is None else f"{100 * value:+.{digits}f}".replace("-", "\u2212")


def interval(value: tuple[float | None, float | None] | None, digits: int = 1) -> str:
    """An interval of shares as percent."""
    if value is None or value[0] is None or value[1] is None:
        return NOTHING
    return f"{100 * value[0]:.{digits}f} to {100 * value[1]:.{digits}f}{THIN}%"


def number(value: float | None, digits: int = 0) -> str:
    """A number with separators."""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def count(value: int, noun: str) -> str:
    """A number of things."""
    return f"{number(value)} {noun}" if value == 1 else f"{number(value)} {noun}s"


def seconds(value: float | None) -> str:
    """A duration of so many seconds."""
    if value is None:
        return NOTHING
    _, step, unit = next(one for one in STEPS if abs(value) < one[0])
    return f"{value / step:.{1 if unit == 's' and value < 10 else 0}f}{THIN}{unit}"


def when(value: datetime | None) -> str:
    """A time in UTC."""
    return NOTHING if value is None else f"{value:%Y-%m-%d %H:%M} UTC"


def clock(value: datetime) -> str:
    """A time for the axis of a chart."""
    return f"{value:%m-%d %H:%M}"


def ago(value: datetime | None) -> str:
    """The distance of a time from now."""
    if value is None:
        return NOTHING
    distance = utc_now() - value
    if abs(distance) < timedelta(seconds=1):
        return "now"
    words = seconds(abs(distance.total_seconds()))
    return f"in {words}" if distance < timedelta(0) else f"{words} ago"


def plain(value: object) -> str:
    """A name of the program as words."""
    text = str(value)
    return WORDS.get(text, text.replace("_", " "))


def short_version(value: str | None) -> str:
    """The number of a version, such as v0007."""
    return NOTHING if value is None else value.partition("-")[0]


def size(value: float | None) -> str:
    """A number of bytes."""
    if value is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f}{THIN}{unit}"
        value /= 1000
    return f"{value:.1f}{THIN}TB"


def reading_value(value: float | None, unit: str) -> str:
    """A value of a reading with its unit."""
    if value is None:
        return NOTHING
    if unit == "share":
        return share(value)
    if unit == "bytes":
        return size(value)
    return f"{value:,.2f}{THIN}{ {'milliseconds': 'ms'}.get(unit, unit) }"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "share": share,
    "points": points,
    "interval": interval,
    "number": number,
    "count": count,
    "seconds": seconds,
    "when": when,
    "clock": clock,
    "ago": ago,
    "plain": plain,
    "short_version": short_version,
    "size": size,
    "reading_value": reading_value,
}
