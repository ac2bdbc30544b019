"""Terminal output: escapes, progress bars and tables of cycles."""

import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress, TextColumn

from karen_learner.cli.output import Output, escape
from karen_learner.cli.progress import LearningProgress, count_lines
from karen_learner.cli.render import command_line, cycle_result
from karen_learner.cli.tables import TEXT_CHARS, FittingTable, cut
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
def test_escaped_text_contains_no_control_characters(text):
    shown = escape(text)
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cs", "Zl", "Zp"}
    shown.encode()


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_printable_text_is_not_escaped(text):
    assert escape(text) == text


def test_escapes_and_cuts_of_known_texts():
    assert escape("a\tb\nc\x1b[31m\x9b\u202e\ud800") == r"a\tb\nc\x1b[31m\x9b\u202e\ud800"
    assert cut("a" * TEXT_CHARS) == "a" * TEXT_CHARS
    assert cut("\x1b" + "a" * TEXT_CHARS) == r"\x1b" + "a" * (TEXT_CHARS - 5) + "…"


def test_progress_shows_stages_and_training_passes():
    result = io.StringIO()
    console = Console(file=result, force_terminal=True, width=120, color_system=None)
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
                loss=0.25, words_per_second=2200.0, seconds=0.5,
            )
        )  # fmt: skip
        progress(
            TrainingProgressed(
                tenant_id="t", cycle_id="c", task="intent", shadow=1, iteration=7, total=10,
                loss=0.5, words_per_second=1100.0, seconds=0.5,
            )
        )  # fmt: skip
    seen = result.getvalue()
    assert "curating" in seen
    assert "training" in seen
    assert "3/10 loss 0.25, 2,200 words/s" in seen
    assert "intent, shadow 2 7/10 loss 0.5, 1,100 words/s" in seen


def test_progress_bars_are_disabled_outside_a_terminal(capsys):
    with Output().progress() as bars:
        bars.add_task("reading")
    assert capsys.readouterr().err == ""


def test_count_lines_counts_text_files_only(tmp_path):
    file = tmp_path / "some.jsonl"
    file.write_text("a\nb\n")
    assert count_lines(file) == 2
    assert count_lines(tmp_path / "some.spacy") is None


def test_command_lines_are_quoted_for_a_shell():
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


def drawn(*parts, width=160):
    console = Console(file=io.StringIO(), width=width, color_system=None, markup=False)
    for part in parts:
        console.print(part)
    return console.file.getvalue()


def shown(result, texts=None):
    return drawn(*cycle_result(result, home=Path(), texts=texts or {}))


def test_a_result_and_a_trace_escape_plain_texts(capsys):
    output = Output()
    output.result(None, "[red]x[/red] \x1b[31m :smile:", FittingTable([{"name": "[b]\x1b[2J"}]))
    output.trace("Traceback\n  x\x1b[2J\n")
    streams = capsys.readouterr()
    assert r"[red]x[/red] \x1b[31m :smile:" in streams.out
    assert r"[b]\x1b[2J" in streams.out
    assert "\x1b" not in streams.out
    assert streams.err == "Traceback\n  x\\x1b[2J\n"


def test_a_table_omits_columns_without_values_and_aligns_numbers():
    rows = [
        {"name": "a", "none": None, "count": 7, "score": 0.5},
        {"name": "b", "none": None, "count": 12, "score": None},
    ]
    title, header, _, *body = [
        line for line in drawn(FittingTable(rows, title="T")).splitlines() if line.strip()
    ]
    assert title.strip() == "T"
    assert header.split() == ["name", "count", "score"]
    assert [line.split() for line in body] == [["a", "7", "0.500"], ["b", "12", "-"]]
    assert header.index("count") + len("count") == body[0].index("7") + 1
    assert drawn(FittingTable([])).strip() == ""


def test_a_narrow_terminal_shows_fewer_columns_and_folds_one_column():
    rows = [{"name": "n" * 60, "first": "f" * 10, "second": "s" * 10}]
    table = FittingTable(rows, optional=["first", "second"], folded="name")
    columns = {width: drawn(table, width=width).split()[:3] for width in (100, 40, 39)}
    assert columns[100] == columns[40] == ["name", "first", "second"]
    assert columns[39][:2] == ["name", "second"]
    assert "n" * 60 in drawn(table, width=100)
    for width in (40, 39):
        assert drawn(table, width=width).replace("name", "").replace("second", "").count("n") == 60


def test_a_table_that_is_too_wide_folds_all_columns_and_hides_nothing():
    row = {"one": "A" * 30, "two": "B" * 25, "three": "C" * 20}
    shown = drawn(FittingTable([row], folded="one"), width=40)
    assert [shown.count(cell[0]) for cell in row.values()] == [30, 25, 20]


def test_a_title_does_not_wrap_at_the_width_of_its_table():
    assert "the title of a narrow table" in drawn(
        FittingTable([{"a": 1}], title="the title of a narrow table")
    )


def test_a_rejected_cycle_shows_texts_with_markup_literally():
    confusion = Confusion(
        task="intent", gold="[b]pay[/b]", predicted="\x1b[2Jgo", count=7, example_ids=("gone", "e1")
    )
    check = GateCheck(name="intent_not_worse", passed=False, detail="intent 0.900 -> 0.800 on 40 texts")
    result = shown(
        LearningCycleResult(
            cycle_id="c1", tenant_id="[i]t[/i]", mode="incremental", reason=None, status="rejected",
            baseline=validation(accuracy=0.9, intent_accuracy=0.9),
            validation=validation(accuracy=0.8, intent_accuracy=0.8, errors=(confusion,)),
            verdict=Verdict(accepted=False, harmful=True, improved=(), checks=(check,)),
            model_version="v1", started_at=utc_now(), error_message="intent fell",
        ),
        {"e1": "[red]x[/red]\x07 " * 20},
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
        assert expected in result
    assert "\x1b" not in result


@pytest.mark.parametrize(
    ("example_ids", "expected"),
    [((), "-"), (("e1", "e2"), "(removed)"), (("e1", "kept"), "still here")],
)
def test_a_confusion_shows_a_text_that_the_store_still_has(example_ids, expected):
    known = Confusion(task="intent", gold="known", predicted="b", count=2, example_ids=("kept",))
    confusion = Confusion(task="intent", gold="pay", predicted="go", count=1, example_ids=example_ids)
    result = LearningCycleResult(
        cycle_id="c1", tenant_id="t", mode="full", reason=None, status="deployed", started_at=utc_now(),
        validation=validation(accuracy=0.8, errors=(known, confusion)),
    )  # fmt: skip
    lines = shown(result, {"kept": "still here"}).splitlines()
    assert next(line for line in lines if " pay " in line).rstrip().endswith(f" {expected}")


def test_a_failed_first_cycle_names_the_fallback():
    result = shown(
        LearningCycleResult(
            cycle_id="c1", tenant_id="t", mode="full", reason=None, status="failed", started_at=utc_now(),
            error_message="TrainingDiverged: the loss is NaN",
        )
    )  # fmt: skip
    assert "unchanged: the fallback" in result
    assert "the loss is NaN" in result
