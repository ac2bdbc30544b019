from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confection import Config
from rich.console import Console

from karen_learner.cli.commands.demo import (
    DEMO_SETTINGS,
    demo_scenario,
    failed_checks,
    informative,
    next_commands,
    unused,
)
from karen_learner.cli.render_simulation import (
    attack_facts,
    chart,
    exchange_lines,
    step_lines,
    summary,
)
from karen_learner.records import LabelledText, LearningCycleResult, utc_now
from karen_learner.settings import load_settings
from karen_learner.simulation import (
    Attack,
    Corpus,
    Exchange,
    Refit,
    Scores,
    Step,
    read_corpus,
    shipped_corpus,
)
from karen_learner.simulation.users import Answer


def step(cycle: int, accuracy: float, **changes: Any) -> Step:
    values: dict[str, Any] = {
        "cycle": cycle, "turns": 100, "feedback": 40, "corrections": 10, "new_examples": 30,
        "replay_examples": 200, "curation": None, "mode": "incremental", "status": "deployed",
        "version": f"v{cycle:04d}-abc", "out_of_fold_accuracy": 0.7, "turns_s": 2.0, "cycle_s": 12.5,
        "scores": Scores(accuracy=accuracy, intent=accuracy), "stage_seconds": {"training": 10.0},
        "message": None,
    }  # fmt: skip
    return Step(**values | changes)


def attack_with(status: str = "rejected", after: str = "aa", accuracy: float = 0.8) -> Attack:
    result = LearningCycleResult(
        cycle_id="c", tenant_id="t", mode="incremental", reason=None, status=status, started_at=utc_now()
    )
    return Attack(
        turns=60, users=6, result=result, digest_before="aa", digest_after=after,
        scores_before=Scores(accuracy=0.8), scores_after=Scores(accuracy=accuracy),
    )  # fmt: skip


REFIT = Refit(training_examples=300, scores=Scores(accuracy=0.83, intent=0.83), seconds=50.0)


def shown(*parts: Any) -> str:
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return capture.get()


def test_a_step_is_one_line_aligned_with_the_header() -> None:
    lines = shown(*step_lines(step(0, 0.5)), *step_lines(step(3, 0.8125))).splitlines()
    assert lines[0].split() == [
        "cycle", "turns", "fdbk", "corr.", "new", "replay", "intent", "time", "status", "live",
    ]  # fmt: skip
    assert lines[2].split() == [
        "3", "100", "40", "10", "30", "200", "0.812", "12.5s", "deployed", "v0003-abc",
    ]  # fmt: skip
    assert lines[0].index("status") == lines[1].index("deployed") == lines[2].index("deployed")


def test_a_step_without_deployment_has_its_reason_below() -> None:
    lines = shown(*step_lines(step(3, 0.8, status="rejected", message="no task \x1b[2J improved")))
    assert [line.split()[-1] for line in lines.splitlines()] == ["v0003-abc", "improved"]
    assert "\x1b" not in lines


def test_a_provisional_version_is_named_so() -> None:
    steps = [step(0, 0.5), step(1, 0.6, decision="provisional"), step(2, 0.6, decision="accepted")]
    lines = shown(*step_lines(steps[1]), summary(steps, None))
    assert "provisional  v0001-abc" in lines
    assert "2 deployed, 1 provisional" in lines


def test_every_task_has_its_own_column() -> None:
    scores = Scores(accuracy=0.7, intent=0.8, entities=0.6)
    lines = shown(*step_lines(step(0, 0.0, scores=scores))).splitlines()
    assert lines[0].split()[6:9] == ["all", "intent", "entities"]
    assert lines[1].split()[6:9] == ["0.700", "0.800", "0.600"]


def test_the_chart_has_a_bar_for_each_cycle_and_the_refit() -> None:
    lines = shown(chart([step(0, 0.6), step(1, 0.8)], REFIT)).splitlines()
    assert lines[0].strip() == "Accuracy on the test texts (bars start at 0.55)"
    assert [line.split()[-1] for line in lines[1:]] == ["0.600", "0.800", "0.830"]
    assert [line.count("█") for line in lines[1:]] == [7, 35, 40]


def test_the_summary_shows_gains_costs_and_the_refit() -> None:
    message = " ".join(shown(summary([step(0, 0.6), step(1, 0.8, status="rejected")], REFIT)).split())
    assert "intent 0.600 -> 0.800 +0.200" in message
    assert "refit from scratch 0.830 in 50.0 s from 300 examples" in message
    assert "minus refit -0.030" in message
    assert "turns 200, 80 with feedback, 20 corrected" in message
    assert "cycles 1 deployed, 1 rejected" in message
    assert "4.0 in turns (50 turns/s), 25.0 in cycles" in message


def test_an_exchange_shows_text_analysis_and_feedback() -> None:
    gold = LabelledText(text="to Rome \x1b[2J", intent="a", entities=((3, 7, "city"),))
    exchange = Exchange(
        position=0, user_id="user-001", gold=gold, answer=Answer(intent="b", entities=(("to", "city"),)),
        feedback={
            "corrected_intent": "a",
            "corrected_entities": [{"start": 3, "end": 7, "label": "city"}],
            "satisfaction_score": 0.1,
        },
    )  # fmt: skip
    message = shown(*exchange_lines(exchange))
    assert "\x1b" not in message
    assert "analysis   b, city: to" in message
    assert "feedback   corrected: a, city: Rome; poor (0.1)" in message


def test_the_attack_report_contains_the_digest() -> None:
    message = " ".join(shown(attack_facts(attack_with())).split())
    assert "60 corrections by 6 users" in message
    assert "aa (unchanged)" in message
    assert "CHANGED, before aa" in shown(attack_facts(attack_with(after="bb")))


def test_failed_checks_of_the_demo_are_listed() -> None:
    steps = [step(0, 0.6), step(1, 0.8)]
    assert failed_checks(steps, attack_with()) == []
    assert failed_checks(steps[:1], attack_with()) == ["accuracy did not rise: 0.600 -> 0.600"]
    assert failed_checks(steps, attack_with("deployed", "bb", 0.1)) == [
        "the poisoned cycle was deployed, not rejected",
        "the attack changed the files of the live model",
        "the attack changed the answers of the live model",
    ]


def test_shown_exchanges_are_corrections_and_one_good_rating() -> None:
    feedbacks: list[dict[str, Any] | None] = [
        None,
        {"satisfaction_score": 0.9},
        {"corrected_intent": "a"},
        {"satisfaction_score": 0.0},
        {"corrected_intent": "a", "satisfaction_score": 1.0},
        {"corrected_intent": "a"},
    ]
    exchanges = [
        Exchange(position=n, user_id="u", gold=LabelledText(text="x"), answer=Answer(), feedback=feedback)
        for n, feedback in enumerate(feedbacks)
    ]
    assert [exchange.position for exchange in informative(exchanges, 3)] == [2, 5, 1]
    assert informative([], 3) == []


def test_the_demo_poisons_unused_texts() -> None:
    corpus = read_corpus(shipped_corpus())
    texts = unused(corpus, demo_scenario())
    assert len(texts) == 1460 - 28 * demo_scenario().shots - (demo_scenario().limit or 0) > 100
    assert not {example.text for example in texts} & {example.text for example in corpus.test}


def test_the_settings_of_the_demo_are_valid(tmp_path: Path) -> None:
    path = tmp_path / "karen.cfg"
    path.write_text(DEMO_SETTINGS)
    settings, shipped = load_settings(path, environment={}), load_settings(environment={})
    assert settings != shipped
    for section, values in Config().from_str(DEMO_SETTINGS).items():
        for name, value in values.items():
            assert getattr(getattr(settings, section), name) == value


def test_next_commands_name_the_home() -> None:
    assert next_commands(Path("demo home"))[0] == "karen-learner --home 'demo home' status halo"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", str(shipped_corpus()), "--cycles", "2", "--every", "9"], "exclude each other"),
        (["simulate", str(shipped_corpus()), "--plot", "x.doc"], ".png"),
        (["simulate", str(shipped_corpus() / "train.jsonl")], "is not a folder"),
    ],
)
def test_an_invalid_command_line_fails_before_the_simulation(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from karen_learner.cli.app import main

    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    assert ended.value.code != 0
    assert message in json.loads(capsys.readouterr().out)["error"]


def test_a_simulation_prints_saves_and_draws_its_result(
    make_corpus: Callable[[int, int], Corpus], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from karen_learner.cli.app import main

    corpus = make_corpus(60, 12)
    for name, texts in (("train", corpus.train), ("test", corpus.test)):
        lines = (json.dumps(text.to_dict()) for text in texts)
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    options = {"training.n_iter": 2, "training.min_updates": 0}
    saved, plot, home = tmp_path / "new" / "run.json", tmp_path / "run.png", tmp_path / "home"
    words = ["simulate", str(tmp_path), "--shots", "6", "--cycles", "2", "--limit", "20"]
    words += ["--correction-rate", "1", "--save", str(saved), "--plot", str(plot), "--keep-home", str(home)]
    words += [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    with pytest.raises(SystemExit) as ended:
        main(words)
    streams = capsys.readouterr()
    assert ended.value.code == 0
    assert "training from scratch" in streams.err
    document = json.loads(saved.read_text())
    assert document["corpus"] == {"train": 60, "test": 12}
    assert document["leaks"].keys() == {"same", "near", "unknown_labels"}
    assert [one["turns"] for one in document["steps"]] == [0, 10, 10]
    assert document["gain"] == document["last"] - document["first"]
    assert document["against_refit"] == document["last"] - document["refit"]["scores"]["accuracy"]
    rows = [line.split() for line in streams.out.splitlines()]
    header = rows[0]
    for row, one in zip(
        (row for row in rows if row[:1] in (["0"], ["1"], ["2"])), document["steps"], strict=True
    ):
        assert row[header.index("all")] == f"{one['scores']['accuracy']:.3f}"
        assert row[header.index("fdbk")] == str(one["feedback"])
    for expected in ("refit from scratch", "minus refit", f"home: {home}", f"plot: {plot}"):
        assert expected in streams.out
    assert plot.stat().st_size > 0
    assert (home / "karen.db").is_file()
