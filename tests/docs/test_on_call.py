"""The session of `docs/on-call.md` runs, with the outputs and the exit codes that the page shows."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from karen_learner.cli import app
from tests.cli.conftest import FAST, corpus, more, write_lines

PAGE = Path(__file__).parents[2] / "docs" / "on-call.md"
VARYING = [
    (re.compile(r"\bv(\d{4})-[0-9a-f]{8}\b"), r"v\1-DIGEST"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "DIGITS"),
    (re.compile(r"telecom-[0-9a-f]{12}"), "telecom-HASH"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?Z"), "TIME"),
    (re.compile(r"(?:/[\w.-]+)+(?=/(?:models|karen|elsewhere))"), "HOME"),
    (re.compile(r"\d[\d,]*(?:\.\d+)?"), "0"),
    (re.compile(r"─+"), "─"),
    (re.compile(r"\s+"), " "),
]
"""Parts of an output that differ between two runs, and their replacements."""
REST = "..."


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the session, and settings for a short training."""
    monkeypatch.chdir(tmp_path)
    for name, value in FAST.items():
        monkeypatch.setenv(f"KAREN_{name.upper().replace('.', '__')}", str(value))
    monkeypatch.setenv("COLUMNS", "800")  # no line wraps
    write_lines(tmp_path / "examples.jsonl", [*corpus(), *more()])
    write_lines(tmp_path / "songs.jsonl", feedback("play song number {}", "billing", 12))
    outages = [one["text"] for one in corpus() if one["intent"] == "outage"]
    wrong = [f"{text} {end}" for text in outages for end in ("now", "today", "again", "here")]
    turns = [turn(text, "billing", f"u{user}") for text in wrong for user in range(9)]
    write_lines(tmp_path / "wrong.jsonl", turns)
    return tmp_path


def turn(text: str, intent: str, user: str) -> dict[str, object]:
    corrected = {"corrected_intent": intent}
    return {"user_text": text, "assistant_response": "ok", "user_id": user, "user_feedback": corrected}


def feedback(phrase: str, intent: str, count: int) -> list[dict[str, object]]:
    return [turn(phrase.format(n), intent, f"u{n % 3}{user}") for n in range(count) for user in "ab"]


def session() -> list[tuple[str, list[str]]]:
    """Commands of the page with their outputs."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def test_the_session_runs_as_shown(workplace: Path) -> None:
    code = 0
    for command, expected in session():
        output, code = run(command, workplace, code)
        compare(command, output, expected)


def run(command: str, workplace: Path, code: int) -> tuple[str, int]:
    """Output and exit code. Commands of the shell work on paths below the folder of the session."""
    name, *words = shlex.split(command)
    if name == "karen-learner":
        done = CliRunner(env={"KAREN_HOME": None}).invoke(app, words)
        return done.output, done.exit_code
    paths = [workplace / word for word in words if not word.startswith("-")]
    if command == "echo $?":
        return f"{code}\n", 0
    if name == "rm":
        for path in paths:
            shutil.rmtree(path)
    elif name == "mkdir":
        paths[0].mkdir()
    elif name == "mv":
        for path in paths[:-1]:
            path.rename(paths[-1] / path.name)
    else:
        raise AssertionError(f"the test cannot run {command!r}")
    return "", 0


def compare(command: str, output: str, expected: list[str]) -> None:
    """The shown lines are those of the output, in this order.

    The line `...` stands for other lines, `...` at the end of a line for the rest of it.
    """
    lines = [shown for line in output.splitlines() if (shown := normal(line))]
    at, may_skip = 0, False
    for wanted in filter(None, map(normal, expected)):
        if wanted == REST:
            may_skip = True
            continue
        found = [number for number in range(at, len(lines)) if is_shown(wanted, lines[number])]
        assert found[:1] == [at] or (found and may_skip), f"$ {command}\n{output}\nmisses: {wanted}"
        at, may_skip = found[0] + 1, False
    assert may_skip or at == len(lines), f"$ {command}\n{output}\nhas more lines than the page"


def is_shown(wanted: str, line: str) -> bool:
    return line.startswith(wanted.removesuffix(REST).rstrip()) if wanted.endswith(REST) else line == wanted


def normal(line: str) -> str:
    for pattern, replacement in VARYING:
        line = pattern.sub(replacement, line)
    return line.strip()
