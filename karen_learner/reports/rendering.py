"""Documents as HTML, PDF, JSON and CSV."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karen_learner.corpora.formats.tables import as_cell
from karen_learner.errors import InvalidInput
from karen_learner.pdf import check_pdf, to_pdf
from karen_learner.records.improvement import AnalysisPeriod, AnalysisResults
from karen_learner.records.period_reports import CostItem, PeriodReport, ReportFormat
from karen_learner.reports import charts
from karen_learner.reports.explaining import (
    cause_text,
    effect_name,
    explain,
    gain_range,
    only_effect,
    period_gain,
)
from karen_learner.reports.wording import (
    change_text,
    cut,
    interval_text,
    metric_name,
    money,
    plural,
    unit_of,
    value_text,
)

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
SHOWN = 4
"""Entries of each list on the first screen."""
CSV_COLUMNS = ("component", "metric", "trend_direction", "before", "after", "change_percentage", "low",
               "high", "adjusted_p", "observations")  # fmt: skip


@dataclass(frozen=True)
class Series:
    """The values of one metric, with the ends of their periods."""

    component: str
    metric: str
    points: tuple[tuple[datetime, float], ...]

    @property
    def values(self) -> list[float]:
        return [value for _, value in self.points]


def check_format(format: ReportFormat) -> None:
    """Raises InvalidInput for an unknown format, or if its libraries are not installed."""
    if format not in RENDERERS:
        raise InvalidInput(f"unknown format {format!r:.60}: one of {', '.join(RENDERERS)}")
    if format in ("html", "pdf"):
        _environment("")
    if format == "pdf":
        check_pdf()


def render(report: PeriodReport, format: ReportFormat) -> bytes:
    """The report in a format. Blocking. Raises InvalidInput (`check_format`)."""
    check_format(format)
    return RENDERERS[format](report)


def schema() -> dict[str, Any]:
    """The published JSON schema of the format `json`."""
    return PeriodReport.model_json_schema(mode="serialization")


def dashboard_html(tenant_id: str, history: Sequence[AnalysisResults]) -> bytes:
    """Charts of all metrics over the periods, by time. Blocking. Raises InvalidInput without Jinja2."""
    ordered = sorted(history, key=lambda one: one.analysis_period.end)
    found: dict[tuple[str, str], list[tuple[datetime, float]]] = {}
    for results in ordered:
        for component, performance in results.components.items():
            for metric, value in performance.metrics.items():
                if value is not None and math.isfinite(value):
                    points = found.setdefault((component, metric), [])
                    points.append((results.analysis_period.end, value))
    series = [Series(component, metric, tuple(points)) for (component, metric), points in found.items()]
    days = ""
    if ordered:
        whole = AnalysisPeriod(start=ordered[0].analysis_period.start, end=ordered[-1].analysis_period.end)
        days = days_text(whole)
    page = _environment("").get_template("dashboard.html.jinja")
    return page.render(tenant_id=tenant_id, series=series, days=days).encode()


def days_text(period: AnalysisPeriod) -> str:
    """The first and the last day of a period, in its own time zone, which is named."""
    first, last = period.start, period.end - timedelta(microseconds=1)
    days = _day(first) if first.date() == last.date() else f"{_day(first)} to {_day(last)}"
    return f"{days} ({first.tzname()})"


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y}"


def _html(report: PeriodReport) -> bytes:
    return _page(report).encode()


def _pdf(report: PeriodReport) -> bytes:
    return to_pdf(_page(report))


def _json(report: PeriodReport) -> bytes:
    return report.model_dump_json(indent=1).encode()


def _csv(report: PeriodReport) -> bytes:
    """One row for each trend, as Excel reads it. No cell is a formula."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(CSV_COLUMNS)
    for trend in report.analysis.trends:
        row = trend.to_dict()
        writer.writerow([_cell(row[name]) for name in CSV_COLUMNS])
    return out.getvalue().encode("utf-8-sig")


def _cell(value: Any) -> Any:
    """Numbers stay numbers; a text never begins a formula."""
    return as_cell(value) if isinstance(value, str) else value


RENDERERS: Mapping[str, Callable[[PeriodReport], bytes]] = {
    "html": _html,
    "pdf": _pdf,
    "json": _json,
    "csv": _csv,
}


def _page(report: PeriodReport) -> str:
    meta = report.report_metadata
    page = _environment(meta.currency).get_template("report.html.jinja")
    notes = [*meta.notes, *(f"{part} could not be made: {error}" for part, error in meta.failed.items())]
    name = "report" if meta.kind == "technical" else "summary"
    health = metric_name(report.system_health) if report.system_health else "too little data"
    return page.render(
        report=report,
        title=f"{meta.period.capitalize()} {name} of the chat bot",
        health=f"Bot health: {health}",
        days=days_text(meta.analysis_period),
        notes=notes,
        conclusions={one.ticket_id: one.conclusion for one in report.impacts},
        limit=SHOWN,
        alone=only_effect(report),
        gain_range=gain_range(report),
        period_gain=period_gain(report),
    )


@cache
def _environment(currency: str) -> Environment:
    """The templates, with all values escaped. Raises InvalidInput without Jinja2."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise InvalidInput("an HTML report needs Jinja2: pip install 'karen-learner[reports]'") from error
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, screen = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "screen.css"))
    allowed = f"style-src '{_digest(style)}' '{_digest(screen)}'"
    made.globals |= {
        "style": Markup(style),  # noqa: S704
        "screen_style": Markup(screen),  # noqa: S704
        "policy": f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'",
        "interval": lambda low, high, metric: interval_text(low, high, unit_of(metric), currency),
        "interval_chart": lambda *numbers: Markup(charts.interval_chart(*numbers)),  # noqa: S704
        "line_chart": lambda one: Markup(charts.line_chart(one.values)),  # noqa: S704
    }
    made.filters |= {
        "metric": metric_name,
        "effect": effect_name,
        "cause": cause_text,
        "explained": lambda one: explain(one, currency),
        "cut": cut,
        "value": lambda value, metric: value_text(value, unit_of(metric), currency),
        "change": lambda value, metric: change_text(value, unit_of(metric), currency),
        "money": lambda value: money(value, currency),
        "cost": lambda item: _cost_text(item, currency),
        "moment": lambda at: f"{_day(at)}, {at:%H:%M} UTC",
        "day": _day,
    }
    return made


def page_policy() -> str:
    """The content security policy of a page: its own styles, and nothing else."""
    return str(_environment("").globals["policy"])


def _digest(style: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def _seconds(amount: float) -> str:
    return "less than a second" if amount < 1 else plural(round(amount), "second")


def _cost_text(item: CostItem, currency: str) -> str:
    if item.unit == "seconds":
        return plural(round(item.amount / 60), "minute") if item.amount >= 120 else _seconds(item.amount)
    return money(item.amount, item.unit) if item.unit == currency else f"{item.amount:,.0f} {item.unit}"
