"""Names and values of metrics as words for people."""

from __future__ import annotations

import math
from typing import Literal

Unit = Literal["share", "milliseconds", "seconds", "bytes", "money", "number"]

_SHARES = ("accuracy", "rate", "share", "f1", "satisfaction", "quality", "confidence", "agreement",
           "coverage", "failed", "potential", "effectiveness", "precision", "recall")  # fmt: skip
_SHORTENED = {"f1": "F1", "llm": "LLM", "roi": "ROI", "p50": "median",
              "p95": "95th percentile", "p99": "99th percentile"}  # fmt: skip
_UNITS = ("ms", "s", "seconds")
UNKNOWN = "unknown"
NBSP = "\u00a0"
"""A space without a line break, between a number and its unit."""
MAX_NAME_CHARS = 120


def unit_of(metric: str) -> Unit:
    """The unit of a metric by the words of its name."""
    words = metric.split("_")
    if words[-1] == "ms":
        return "milliseconds"
    if words[-1] in ("s", "seconds", "time"):
        return "seconds"
    if words[-1] == "bytes":
        return "bytes"
    if "cost" in words or "costs" in words:
        return "money"
    return "share" if any(word in _SHARES for word in words) else "number"


def metric_name(metric: str) -> str:
    """The name of a metric in words: `intent_accuracy` is "Intent accuracy". Long names are cut."""
    words = metric.split("_")
    if len(words) > 1 and words[-1] in _UNITS:
        words.pop()
    named = " ".join(_SHORTENED.get(word, word) for word in words)
    return cut(named[:1].upper() + named[1:])


def cut(text: str, limit: int = MAX_NAME_CHARS) -> str:
    """The text; a longer one than `limit` characters ends with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def value_text(value: float | None, unit: Unit, currency: str = "") -> str:
    """A value with its unit."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if unit == "share":
        return f"{value:.1%}".replace("%", f"{NBSP}%")
    if unit == "money":
        return money(value, currency)
    short = {"milliseconds": "ms", "seconds": "s", "bytes": "bytes"}.get(unit)
    return _number(value) if short is None else f"{_number(value)}{NBSP}{short}"


def change_text(change: float | None, unit: Unit, currency: str = "") -> str:
    """A difference with its sign; of shares in percentage points."""
    if change is None or not math.isfinite(change):
        return UNKNOWN
    if unit == "share":
        return f"{100 * change:+.1f}{NBSP}percentage points"
    return ("+" if change > 0 else "") + value_text(change, unit, currency)


def interval_text(low: float | None, high: float | None, unit: Unit, currency: str = "") -> str:
    """The bounds of a 95 % interval: "between +1.0 and +2.0 percentage points"."""
    if low is None or high is None or not math.isfinite(high - low):
        return "no interval"
    first = change_text(low, unit, currency).removesuffix(f"{NBSP}percentage points")
    return f"between {first} and {change_text(high, unit, currency)}"


def money(amount: float, currency: str) -> str:
    """An amount with its currency: two decimals below 100."""
    if not math.isfinite(amount):
        return UNKNOWN
    return f"{amount:,.{2 if abs(amount) < 100 else 0}f}{NBSP}{currency}".rstrip()


def plural(count: int, word: str) -> str:
    """A counted word: "1 metric", "2 metrics"."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _number(value: float) -> str:
    digits = 0 if value == int(value) or abs(value) >= 100 else 2
    return f"{value:,.{digits}f}"
