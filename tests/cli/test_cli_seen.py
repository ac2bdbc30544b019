"""What is seen on a terminal: bars, safe text, tables of odd results."""

import io
import unicodedata
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress, TextColumn

from karen_learner.cli.escape import escape, escape_lines, shortened
from karen_learner.cli.output import Output
from karen_learner.cli.progress import LearningProgress, count_lines
from karen_learner.cli.render import command_line
from karen_learner.cli.render_cycle import cycle_result
from karen_learner.events import StageStarted, TrainingProgressed
from karen_learner.records import (
    Confusion,
    GateCheck,
    LearningCycleResult,
    ValidationResult,
    Verdict,
    utc_now,
)


@given(st.text())
def test_no_text_can_steer_a_terminal(text):
    shown = escape(text)
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cs", "Zl", "Zp"}
    shown.encode()


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_ordinary_text_is_shown_as_it_is(text):
    assert escape(text) == text


def test_examples_of_visible_text():
    assert escape("a\tb\nc\x1b[31m\x9b\u202e\ud800") == r"a\tb\nc\x1b[31m\x9b\u202e\ud800"
    assert escape_lines("a\n\x1bb") == "a\n\\x1bb"
    assert shortened("abcdef", 4) == "abc…"
    assert shortened("abcd", 4) == "abcd"


def test_a_cycle_is_seen_stage_by_stage_and_pass_by_pass():
    told = io.StringIO()
    console = Console(file=told, force_terminal=True, width=120, color_system=None)
    columns = (
        TextColumn("{task.description}"),
        TextColumn("{task.completed}/{task.total} {task.fields[details]}"),
    )
    with Progress(*columns, console=console, auto_refresh=False) as bars:
        progress = LearningProgress(bars)
        progress(StageStarted(tenant_id="t", cycle_id="c", stage="curating"))
        progress(StageStarted(tenant_id="t", cycle_id="c", stage="training"))
        progress(
            TrainingProgressed(
                tenant_id="t", cycle_id="c", task="intent", iteration=3, total=10,
                loss=0.25, words_per_second=2200.0, seconds=0.5, score=0.875,
            )
        )  # fmt: skip
    seen = told.getvalue()
    assert "curating" in seen
    assert "training" in seen
    assert "3/10 loss 0.25, 2,200 words/s, dev score 0.875" in seen


def test_no_bars_where_nobody_watches(capsys):
    with Output().progress() as bars:
        bars.add_task("reading")
    assert capsys.readouterr().err == ""


def test_lines_are_counted_for_the_bar(tmp_path):
    file = tmp_path / "some.jsonl"
    file.write_text("a\nb\n")
    assert count_lines(file) == 2
    assert count_lines(tmp_path / "some.spacy") is None


def test_a_command_to_type_is_quoted():
    assert command_line(Path(), "rollback", "a tenant") == "karen-learner rollback 'a tenant'"
    assert command_line(Path("/my home"), "status") == "karen-learner --home '/my home' status"


def validation(**scores):
    absent = dict.fromkeys(ValidationResult.model_fields, None)
    known = {
        "passed_threshold": False,
        "counts": {"intent": 40},
        "per_label": {},
        "intervals": {},
        "errors": (),
    }
    return ValidationResult(**(absent | known | scores))


def shown(result):
    console = Console(file=io.StringIO(), width=160, color_system=None, markup=False)
    for part in cycle_result(result, home=Path()):
        console.print(part)
    return console.file.getvalue()


def test_a_rejected_cycle_with_hostile_texts_is_shown_literally():
    confusion = Confusion(
        task="intent", gold="[b]pay[/b]", predicted="\x1b[2Jgo", count=7, texts=("[red]x[/red]\x07 " * 20,)
    )
    check = GateCheck(name="intent_not_worse", passed=False, detail="intent 0.900 -> 0.800 on 40 texts")
    told = shown(
        LearningCycleResult(
            cycle_id="c1", tenant_id="[i]t[/i]", mode="incremental", reason=None, status="rejected",
            baseline=validation(accuracy=0.9, intent_accuracy=0.9),
            validation=validation(accuracy=0.8, intent_accuracy=0.8, errors=(confusion,)),
            verdict=Verdict(accepted=False, harmful=True, improved=(), checks=(check,)),
            model_version="v1", started_at=utc_now(), error_message="intent fell",
        )
    )  # fmt: skip
    for expected in (
        "REJECTED",
        "[i]t[/i]",
        "[b]pay[/b]",
        r"\x1b[2Jgo",
        r"[red]x[/red]\x07",
        "-0.100",
        "FAILED",
    ):
        assert expected in told
    assert "\x1b" not in told


def test_a_failed_first_cycle_says_that_the_fallback_answers():
    told = shown(
        LearningCycleResult(
            cycle_id="c1", tenant_id="t", mode="full", reason=None, status="failed", started_at=utc_now(),
            error_message="TrainingDiverged: the loss is NaN",
        )
    )  # fmt: skip
    assert "unchanged: the fallback" in told
    assert "the loss is NaN" in told
