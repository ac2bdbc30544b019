"""`report`: made, copied, listed, shown, archived."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from karen_learner.errors import ExitCode
from tests.cli.conftest import TENANT as ACME
from tests.cli.conftest import Cli


def test_a_report_is_made_copied_listed_shown_and_archived(cli: Cli, tmp_path: Path) -> None:
    made = cli("report", ACME, "--format", "csv,html", "--output", str(tmp_path / "copies"), "--json")
    assert made.exit_code == ExitCode.OK, made.stderr
    told = json.loads(made.stdout)
    assert told["headline"] == "There is no earlier period to compare with. Nothing waits for a decision."
    assert [Path(path).suffix for path in told["copies"]] == [".csv", ".html"]
    (listed,) = json.loads(cli("report", "list", ACME, "--json").stdout)["reports"]
    assert listed["report_id"] == told["report_id"]
    assert cli("report", "archive", "--days", "0").exit_code == ExitCode.OK
    assert cli("report", "archive").exit_code == ExitCode.SKIPPED
    page = tmp_path / "page.html"
    shown = cli(
        "report", "show", ACME, "--id", told["report_id"][-8:], "--format", "html", "--output", str(page)
    )
    assert shown.exit_code == ExitCode.OK, shown.stderr
    assert page.read_bytes() == Path(told["copies"][1]).read_bytes()
    assert cli("report", "dashboard", ACME).exit_code == ExitCode.OK


def test_the_schema_is_printed(cli: Cli) -> None:
    assert "report_metadata" in json.loads(cli("report", "schema").stdout)["properties"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("report", "list"), ExitCode.USAGE),
        (("report", "show", ACME), ExitCode.USAGE),
        (("report", "publish", ACME), ExitCode.USAGE),
        (("report", ACME, "--format", "docx"), ExitCode.ERROR),
        (("report", "nobody"), ExitCode.ERROR),
        (("report", "show", ACME, "--id", "../../x"), ExitCode.ERROR),
        (("report", ACME, "--output", "/dev/null/x"), ExitCode.ERROR),
    ],
)
def test_unusable_arguments_are_errors(cli: Cli, words: tuple[str, ...], code: ExitCode) -> None:
    done = cli(*words)
    assert done.exit_code == code, done.stdout
    assert done.stderr.startswith("karen-learner: error: ")
