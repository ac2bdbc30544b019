"""The pages of reports: their answers, and hostile or missing values in them."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta
from html import unescape
from typing import Any

import jsonschema
import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.errors import InvalidInput
from karen_learner.pdf import pdf_problem
from karen_learner.records.improvement import DataQuality
from karen_learner.records.period_reports import PeriodReport, ReportMetadata
from karen_learner.reports.explaining import possible_bounds
from karen_learner.reports.rendering import dashboard_html, render, schema
from karen_learner.reports.summary import make_document
from karen_learner.reports.wording import UNKNOWN, change_text, metric_name, unit_of, value_text
from tests.reports.specimens import (
    END,
    WEEK,
    a_week,
    component,
    impact,
    recommendation,
    roi_analysis,
    roi_summary,
    ticket,
    trend,
)

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'"


def document(
    results: Any = None, *, kind: str = "executive", tenant_id: str = "telecom", **more: Any
) -> PeriodReport:
    metadata = ReportMetadata(
        tenant_id=tenant_id, kind=kind, period="weekly", analysis_period=WEEK, created_at=END, currency="EUR"
    )
    return make_document(metadata, a_week() if results is None else results, **more)


def whole(**more: Any) -> PeriodReport:
    given = {"recommendations": [recommendation()], "tickets": [ticket()], "impacts": [impact()]}
    return document(**{**given, "roi": roi_summary(), **more})


def page(report: PeriodReport) -> str:
    return render(report, "html").decode()


def plain(text: str) -> str:
    """The text with common spaces."""
    return " ".join(text.split())


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html.partition("<body>")[2]).split())


def test_the_first_sentences_answer_the_four_questions() -> None:
    report = whole()
    assert plain(report.headline) == (
        "3 things got better, one thing got worse. All changes measured so far brought 1,284 EUR net. "
        "The period cost 704 EUR. 2 decisions wait."
    )
    said = text_of(page(report))
    for words in ("What got better", "What all changes were worth so far", "What it cost", "What to decide"):
        assert words in said


def test_only_a_holdback_is_told_as_a_cause() -> None:
    said = text_of(page(whole()))
    assert said.count("compared with users of the old version") == 1
    assert said.count("before and after only; cause not proven") == 3
    assert said.count("but something else at the same time may have caused it") == 3


def test_an_effect_that_may_be_zero_is_no_improvement() -> None:
    unsure = impact(effect=impact().effect.model_copy(update={"low": -0.001}))
    assert [one.causal for one in whole(impacts=[unsure]).better] == [False, False]


def test_an_effect_of_an_earlier_period_is_not_told_again() -> None:
    earlier = impact(measured_at=WEEK.start - timedelta(days=1))
    assert not any(one.causal for one in whole(impacts=[earlier]).better)
    later = impact(effect=impact().effect.model_copy(update={"change": 0.03}))
    assert [one.change for one in whole(impacts=[later, earlier]).better if one.causal] == [0.03]


def test_an_unknown_worth_is_not_zero() -> None:
    free = roi_analysis(gain=0.0, cost=0.0, net=0.0, roi_percentage=None, payback_days=None)
    report = whole(roi=roi_summary(roi=free))
    assert "All changes measured so far: Intent accuracy +3.1 percentage points." in plain(report.headline)
    assert "The worth in money is unknown" in text_of(page(report))


def test_a_falling_cost_is_better() -> None:
    cheaper = impact(effect=impact().effect.model_copy(
        update={"metric": "cost_per_turn", "change": -0.02, "low": -0.03, "high": -0.01}
    ))  # fmt: skip
    assert whole(impacts=[cheaper]).better[0].metric == "cost_per_turn"


def test_a_decision_names_the_present_value_and_the_first_step() -> None:
    advice = recommendation("Improve fallback_rate of answering", metric="answering.fallback_rate")
    (one,) = document(a_week(alerts=()), recommendations=[advice]).decisions
    assert one.title == "Improve fallback rate of answering"
    assert plain(one.reason) == "It is 4.1 %, before 2.2 %. First step: open the review queue."


def test_a_recommendation_with_a_ticket_waits_for_no_decision() -> None:
    one = recommendation()
    report = document(a_week(alerts=()), recommendations=[one], tickets=[ticket(recommendation_id=one.id)])
    assert report.decisions == ()


def test_an_empty_week_is_a_report() -> None:
    silent = {"understanding": component("understanding", {"intent_accuracy": None}, observations=0)}
    empty = a_week(components=silent, trends=(), alerts=(), overall_health=None, data_quality=DataQuality())
    for kind in ("executive", "technical"):
        report = document(empty, kind=kind)
        assert report.headline == "Nothing was observed in this period. Nothing waits for a decision."
        said = text_of(page(report))
        assert "too little data" in said
        assert "no change has a measured effect" in said
        assert "None" not in said
    assert len(render(document(empty), "csv").splitlines()) == 1


def test_a_missing_cost_is_not_zero() -> None:
    free = roi_analysis(cost=0.0, net=1_904.0, roi_percentage=None, payback_days=None)
    unknown = roi_analysis(cost=None, net=None, roi_percentage=None, payback_days=None)
    for roi in (free, unknown):  # earlier releases stored 0
        report = whole(roi=roi_summary(roi=roi, costs_missing=3))
        assert "brought 1,904 EUR; their cost is not recorded." in plain(report.headline)
        said = text_of(page(report))
        assert "cost not recorded, so the true net worth may be lower" in said
        assert "Return on the" not in said
        assert "0.00 EUR" not in said
        assert "None" not in said
    report = whole(roi=roi_summary(roi=free, costs_recorded=3))
    assert "brought 1,904 EUR net." in plain(report.headline)
    assert "cost of the changes 0.00 EUR" in text_of(page(report))
    report = whole(roi=roi_summary(costs_recorded=2, costs_missing=1))
    assert "net of the recorded costs." in plain(report.headline)
    assert "1 more cost is not recorded" in text_of(page(report))


def measured(**more: Any) -> PeriodReport:
    effect = impact().effect.model_copy(update={
        "metric": "accuracy", "before": 0.724, "after": 1.0, "change": 0.289, "low": 0.2, "high": 0.378,
        **more,
    })  # fmt: skip
    return whole(
        impacts=[impact(effect=effect)], tickets=[ticket(title="v0002-ec4b6e79 replaces v0001-2214dc52")]
    )


def test_an_effect_is_explained_with_its_correction_and_size() -> None:
    said = text_of(page(measured()))
    for words in (
        "Right answers (of those that users confirmed or corrected)",
        "Version 2 of the model replaced version 1",
        "Without the change: 72.4 % right. With it: 100.0 % right.",
        "The difference, corrected for how these users did before, is +28.9 percentage points.",
        "Compared: 812 users with the new version and 90 users with the old one, "
        "4,812 confirmed or corrected answers, in 7 days.",
    ):
        assert words in said
    assert "corrected for" not in text_of(page(measured(change=0.276)))
    series = text_of(page(measured(causal=False, controls=4)))
    assert "Before: 72.4 % right. After: 100.0 % right." in series
    assert "corrected for the change at other customers" in series


def test_the_range_of_a_share_is_cut_where_a_share_ends() -> None:
    said = text_of(page(measured()))
    assert "between +20.0 and +28.9 percentage points, cut because a share ends at 0 and 100 %." in said
    assert "cut because" not in text_of(page(measured(after=0.9)))


@given(st.floats(0, 1), st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_cut_range_contains_its_change(after: float, change: float, below: float, above: float) -> None:
    one = (
        measured()
        .better[0]
        .model_copy(update={"after": after, "change": change, "low": change - below, "high": change + above})
    )
    low, high, is_cut = possible_bounds(one)
    assert low is not None
    assert high is not None
    assert low <= change <= high
    assert is_cut == ((low, high) != (one.low, one.high))
    assert high - low <= 1.0 + 1e-9


def test_one_effect_has_one_range() -> None:
    alone = roi_summary(tickets=1, measured=1, cumulative=0.021)
    assert "all measured changes" not in text_of(page(whole(roi=alone)))
    said = text_of(page(whole(roi=alone)))
    assert "gain 1,904 EUR (probably between 725 EUR and 3,083 EUR)" in said
    assert "each alone" not in said
    assert "each alone (1) 1,904 EUR" in text_of(page(whole()))
    assert "all changes are measured" in text_of(page(whole(roi=alone, impacts=[])))
    assert "3 of 5 changes measured" in text_of(page(whole()))


def test_an_effect_of_a_later_period_is_left_out() -> None:
    now, later = impact(), impact(measured_at=WEEK.end, effect=None)
    report = whole(impacts=[now, later])
    assert report.impacts == (now,)
    assert any(one.causal for one in report.better)


def test_failing_parts_and_skipped_entries_are_noted() -> None:
    said = text_of(page(document(a_week(failed={"stream": "StoreLocked: busy"}))))
    assert "stream could not be made: StoreLocked: busy" in said
    assert "100 of 10,000 log entries (1.0%) are skipped." in said


@pytest.mark.parametrize("kind", ["executive", "technical"])
def test_texts_of_others_are_shown_and_never_run(kind: str) -> None:
    hostile = a_week(
        tenant_id=SCRIPT,
        trends=(trend("intent_accuracy", 0.8, 0.9, "improving", component=SCRIPT),),
        components={SCRIPT: component(SCRIPT, {SCRIPT: 0.5}, reasons=(SCRIPT,))},
        failed={SCRIPT: SCRIPT},
    )
    report = document(
        hostile, kind=kind, tenant_id=SCRIPT, recommendations=[recommendation(SCRIPT, description=SCRIPT)],
        tickets=[ticket(title=SCRIPT, cost=1.0)], impacts=[impact(conclusion=SCRIPT)],
    )  # fmt: skip
    html = page(report)
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html
    assert "<script" not in dashboard_html(SCRIPT, [hostile]).decode()


def test_a_page_loads_nothing_and_allows_its_own_style_only() -> None:
    html = page(whole(kind="technical"))
    assert re.search(r"default-src 'none'; style-src 'sha256-", unescape(html))
    assert not re.search(r"(src|href)=|url\(|@import| style=", html)


@given(st.text(alphabet="=+-@\t\r'a1", min_size=1, max_size=6))
def test_no_cell_is_a_formula(name: str) -> None:
    report = document(a_week(trends=(trend("intent_accuracy", 0.8, 0.9, "improving", component=name),)))
    rows = list(csv.reader(io.StringIO(render(report, "csv").decode("utf-8-sig"))))
    assert rows[0][:2] == ["component", "metric"]
    assert not re.match(r"[=+\-@\t\r]", rows[1][0])
    assert rows[1][3:5] == ["0.8", "0.9"]


@pytest.mark.skipif(pdf_problem() is not None, reason="Pango is missing")
def test_the_pdf_of_the_executive_page_is_one_sheet() -> None:
    pdf = pypdf.PdfReader(io.BytesIO(render(whole(), "pdf")))
    assert len(pdf.pages) == 1
    assert "What to decide" in pdf.pages[0].extract_text()


def test_the_json_keeps_its_published_schema() -> None:
    written = json.loads(render(whole(kind="technical"), "json"))
    jsonschema.validate(written, schema())
    assert {"report_metadata", "system_health", "roi_estimate"} <= written.keys()
    assert {"trend_direction", "change_percentage"} <= written["analysis"]["trends"][0].keys()
    assert PeriodReport.model_validate(written).headline == whole().headline


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e308, 5e-324])
def test_numbers_without_meaning_are_unknown(value: float) -> None:
    odd = a_week(
        trends=(trend("cost", 0.1, value, "unclear", low=-value, high=value, change_percentage=None),),
        components={"answering": component("answering", {"latency_ms": value, "events": value})},
    )
    report = document(odd, kind="technical")
    assert not re.search(r"\b(nan|inf)\b", text_of(page(report)))
    assert PeriodReport.model_validate_json(render(report, "json")).headline == report.headline
    dashboard_html("telecom", [odd])


def test_endless_names_are_cut() -> None:
    endless = "x" * 100_000
    report = document(a_week(), recommendations=[recommendation(endless, description=endless)])
    assert len(page(report)) < 20_000


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(InvalidInput, match="one of html, pdf, json, csv"):
        render(whole(), "../../etc/passwd")  # type: ignore[arg-type]


def test_a_dashboard_shows_each_metric_with_its_values() -> None:
    html = dashboard_html("telecom", [a_week()]).decode()
    assert html.count("<svg") == html.count("<details>") == 7
    assert "No period has a measured metric yet." in dashboard_html("telecom", []).decode()


def test_values_have_units() -> None:
    assert unit_of("avg_accuracy") == "share"
    assert metric_name("latency_p95_ms") == "Latency 95th percentile"
    assert plain(value_text(0.5, unit_of("fallback_rate"))) == "50.0 %"
    assert plain(value_text(12.0, unit_of("latency_p95_ms"))) == "12 ms"
    assert plain(value_text(84.1, unit_of("total_cost"), "EUR")) == "84.10 EUR"
    assert plain(change_text(-0.021, "share")) == "-2.1 percentage points"
    assert change_text(None, "share") == UNKNOWN
