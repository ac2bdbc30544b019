"""`show`: decisions of cycles, with gates, flips and the texts that would change them."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from karen_learner.cli.render import cycle_result, history
from karen_learner.errors import ExitCode
from karen_learner.records import (
    DoubtfulLabel,
    Flip,
    Flips,
    GateCheck,
    LearningCycleResult,
    Risk,
    ValidationResult,
    Verdict,
    utc_now,
)

TENANT = "telecom"
MISSING = "about 180 more labelled texts of 'delivery' would decide it"


def drawn(*parts, width=160):
    console = Console(file=io.StringIO(), width=width, color_system=None, markup=False)
    for part in parts:
        console.print(part)
    return console.file.getvalue()


def validation(accuracy):
    scores = dict.fromkeys(["accuracy", "intent_accuracy", "f1_score", "precision", "recall"], accuracy)
    return ValidationResult(
        **scores, sentiment_accuracy=None, entity_accuracy=None, passed_threshold=False, counts={"intent": 40}
    )


def decided(status, decision, **more):
    checks = (
        GateCheck(
            name="improved", passed=False, detail="no gain is shown: intent 0.800 -> 0.825", statistic=0.84,
            interval=(-0.03, 0.08), threshold=2.33,
        ),
        GateCheck(name="size", passed=True, detail="12 MB", statistic=12_000_000.0, threshold=50_000_000.0),
    )  # fmt: skip
    verdict = Verdict(
        accepted=status == "deployed", harmful=False, improved=(), checks=checks, decision=decision,
        alpha=0.01, risk=Risk(before=0.1, spent=0.01, after=0.09, judged=812),
        missing=more.pop("missing", None),
    )  # fmt: skip
    return LearningCycleResult(
        cycle_id="c1", tenant_id="t", mode="incremental", reason=None, status=status, verdict=verdict,
        baseline=validation(0.8), validation=validation(0.825), model_version="v1",
        started_at=utc_now(), **more,
    )  # fmt: skip


def shown(result, *, width=160, texts=None, live=None):
    return drawn(*cycle_result(result, home=Path(), texts=texts or {}, live=live), width=width)


def test_a_cycle_that_is_too_close_names_the_missing_texts():
    result = decided("rejected", "too_close", missing=MISSING)
    for width in (80, 160):
        seen = " ".join(shown(result, width=width).split())
        assert "TOO CLOSE" in seen
        assert MISSING in seen
        assert "1.00 % spent of 10.00 %; 9.00 % left" in seen
        assert "812 judged gold texts" in seen
    assert "too close" in drawn(history([result]))


def test_gates_have_statistic_threshold_interval_and_sentence():
    lines = shown(decided("rejected", "too_close")).splitlines()
    improved = next(line for line in lines if line.strip().startswith("improved"))
    for expected in ("FAILED", "0.840", "2.330", "-0.030 to +0.080", "no gain is shown"):
        assert expected in improved
    size = next(line for line in lines if line.strip().startswith("size"))
    assert "12,000,000" in size
    assert "50,000,000" in size


def test_flips_are_shown_with_their_texts():
    flips = Flips(
        counts={"intent": {"fixed": 2, "broken": 1, "changed": 0}},
        first=(
            Flip(kind="fixed", task="intent", example_id="e1", gold="pay", before="go", after="pay"),
            Flip(kind="broken", task="intent", example_id="e2", gold="go", before="go", after="pay"),
        ),
    )
    seen = shown(decided("deployed", "accepted", flips=flips), texts={"e1": "[b]the bill\x1b[2J[/b]"})
    assert r"[b]the bill\x1b[2J[/b]" in seen
    assert [line.split()[:3] for line in seen.splitlines() if "intent" in line and " 2 " in line] == [
        ["intent", "2", "1"]
    ]
    nothing = decided("deployed", "accepted", flips=Flips(counts={}))
    assert "the same answers" in shown(nothing)


def test_doubtful_feedback_is_shown_with_its_texts():
    label = DoubtfulLabel(example_id="e1", task="intent", stated="pay", predicted="go")
    seen = shown(decided("deployed", "accepted", doubtful_labels=(label,)), texts={"e1": "the bill"})
    line = next(line for line in seen.splitlines() if "the bill" in line)
    assert line.split() == ["intent", "pay", "go", "the", "bill"]
    many = tuple(label.model_copy(update={"example_id": f"e{at}"}) for at in range(12))
    assert "10 of 12" in shown(decided("deployed", "accepted", doubtful_labels=many))


def test_an_old_version_is_not_called_live():
    result = decided("deployed", "accepted", previous_version="v0")
    assert "v1 is live" in shown(result, live="v1")
    assert "rollback t v0" in shown(result, live="v1")
    seen = shown(result, live="v2")
    assert "v1 was deployed for 't'; live now: v2" in seen
    assert "to undo" not in seen


def test_a_row_of_an_earlier_release_has_no_decision():
    verdict = Verdict(accepted=True, harmful=False, improved=(), checks=())
    result = decided("deployed", "accepted").model_copy(update={"verdict": verdict})
    seen = shown(result)
    assert "DEPLOYED" in seen
    assert "decision" not in seen


def test_show_repeats_the_last_cycle(cli, trained):
    newest, first = cli.json("history", TENANT)
    document = cli.json("show", TENANT)
    assert {name: document[name] for name in newest} == newest
    assert cli.json("show", TENANT, first["cycle_id"])["reason"] == "bootstrap"
    learned = [line.rstrip() for line in trained.learn.stdout.splitlines() if line.strip()]
    assert [line.rstrip() for line in cli("show", TENANT).stdout.splitlines() if line.strip()] == learned
    assert "live now" in cli("show", TENANT, first["cycle_id"]).stdout


def test_show_passes_over_skipped_cycles(cli):
    assert cli("learn", TENANT).exit_code == ExitCode.SKIPPED
    assert cli.json("show", TENANT)["status"] == "deployed"
    skipped = cli.json("history", TENANT, "--limit", "1")[0]
    assert skipped["status"] == "skipped"
    assert cli.json("show", TENANT, skipped["cycle_id"], code=ExitCode.SKIPPED)["status"] == "skipped"


@pytest.mark.parametrize("words", [("show", TENANT, "not-hexadecimal"), ("show", "new")])
def test_unknown_cycles_are_errors(cli, words, tmp_path):
    turn = '{"user_text": "hi", "assistant_response": "hello", "user_id": "u"}\n'
    file = tmp_path / "turns.jsonl"
    file.write_text(turn)
    assert cli("ingest", "new", file).exit_code == ExitCode.OK
    assert cli.json(*words, code=ExitCode.ERROR)["type"] == "UnknownCycle"


def test_the_journal_has_the_texts_that_a_cycle_answers_differently(cli):
    document = cli.json("show", TENANT)
    fixed = [flip for flip in document["flips"]["first"] if flip["kind"] == "fixed"]
    counts = document["flips"]["counts"]["intent"]
    assert counts["fixed"] >= len(fixed) > 0
    assert {flip["gold"] for flip in fixed} == {"greeting"}, "the first model does not know this intent"
    assert all(flip["example_id"] in document["example_texts"] for flip in document["flips"]["first"])
    assert "Texts with other answers" in cli("show", TENANT).stdout
    first = cli.json("history", TENANT)[-1]
    assert cli.json("show", TENANT, first["cycle_id"])["flips"] is None
