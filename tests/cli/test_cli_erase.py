"""`erase`: a dry run and a confirmation come first; the words of the user leave the home."""

import pytest

from karen_learner.errors import ExitCode
from tests.cli.conftest import TENANT, Cli, write_lines

WORDS = "the zebra of the user is billed"


@pytest.fixture
def told(cli: Cli) -> Cli:
    feedback = {"corrected_intent": "billing"}
    turn = {"user_text": WORDS, "assistant_response": "ok", "user_id": "ann", "user_feedback": feedback}
    assert cli("ingest", TENANT, write_lines(cli.home / "turns.jsonl", [turn])).exit_code == 0
    (cli.home / "turns.jsonl").unlink()
    return cli


def has_words(cli: Cli) -> bool:
    return any(b"zebra" in path.read_bytes() for path in cli.home.rglob("*") if path.is_file())


def test_a_user_is_erased_after_a_dry_run(told: Cli) -> None:
    planned = told.json("erase", TENANT, "ann", "--dry-run")
    assert (planned["done"], planned["rows"]["turns"]) == (False, 1)
    assert told("erase", TENANT, "ann", input="n\n").exit_code == ExitCode.SKIPPED
    assert has_words(told)
    assert "1 turns" in told("erase", TENANT, "ann", "--yes").stdout
    assert not has_words(told)
    assert told.json("erase", TENANT, "ann", "--yes", code=ExitCode.SKIPPED)["rows"]["turns"] == 0


def test_an_unknown_tenant_is_an_error(told: Cli) -> None:
    failed = told("erase", "nobody", "ann", "--yes")
    assert failed.exit_code == ExitCode.ERROR
    assert "nobody" in failed.stderr
