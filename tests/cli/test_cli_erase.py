"""`erase`: a dry run and a confirmation come first; the words of the user leave the home."""

from pathlib import Path

import pytest

from karen_learner.errors import ExitCode
from karen_learner.models.files import HomeLayout
from karen_learner.settings import load_settings
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


def test_training_texts_that_a_cycle_kept_are_erased_by_another_erasure(told: Cli) -> None:
    told("erase", TENANT, "ann", "--yes")
    corpus = HomeLayout(told.home, load_settings().paths).corpus(TENANT, "cycle")
    corpus.mkdir(parents=True)
    (corpus / "train.spacy").write_text(WORDS)
    assert told("erase", TENANT, "ann", input="n\n").exit_code == ExitCode.SKIPPED
    assert has_words(told)
    assert told.json("erase", TENANT, "ann", "--yes")["corpora"] == 1
    assert not has_words(told)
    assert told.json("erase", TENANT, "ann", "--yes", code=ExitCode.SKIPPED)["corpora"] == 0


def test_an_unknown_tenant_is_an_error(told: Cli) -> None:
    failed = told("erase", "nobody", "ann", "--yes")
    assert failed.exit_code == ExitCode.ERROR
    assert "nobody" in failed.stderr


def test_log_entries_about_a_subject_are_erased(cli: Cli, tmp_path: Path) -> None:
    made = {"log_type": "scoring", "session_id": "s", "decision_reasoning": {"method_used": "rules"}}
    file = write_lines(tmp_path / "log.jsonl", [{**made, "lead_identifier": "lead-17"}])
    assert cli("ingest", TENANT, file).exit_code == ExitCode.OK
    erase = ("erase", TENANT, "--subject", "lead-17")
    assert cli(*erase, input="n\n").exit_code == ExitCode.SKIPPED
    assert cli.json(*erase, "--yes")["log_entries"] == 1
    assert cli(*erase, "--yes").exit_code == ExitCode.SKIPPED
    for words in (("erase", TENANT), (*erase, "--dry-run"), ("erase", TENANT, "ann", "--subject", "x")):
        assert cli(*words).exit_code == ExitCode.USAGE
