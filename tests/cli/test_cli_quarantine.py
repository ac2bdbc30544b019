"""`quarantine`: lists examples with reasons and short ids, releases and discards them."""

import pytest

from karen_learner.errors import ExitCode
from tests.cli.conftest import TENANT, Cli, write_lines


@pytest.fixture
def disputed(cli: Cli, fast: tuple[str, ...]) -> Cli:
    """A home with two examples that people disagree about."""
    lines = [
        {
            "user_text": text,
            "assistant_response": "ok",
            "user_id": user,
            "user_feedback": {"corrected_intent": intent},
        }
        for text in ("an unclear question", "another unclear question")
        for user, intent in (("a", "billing"), ("b", "outage"))
    ]
    assert cli("ingest", TENANT, write_lines(cli.home / "turns.jsonl", lines)).exit_code == 0
    cli("learn", TENANT, *fast, "--set", "learning.min_data_threshold=1")
    return cli


def test_examples_are_listed_with_short_ids_that_other_commands_accept(disputed: Cli) -> None:
    found = disputed.json("quarantine", TENANT)
    assert found["counts"] == {"conflict": 2}
    name = found["examples"][0]["example_id"]
    shown = disputed("quarantine", TENANT).stdout
    short = name.partition("-")[2][:8]
    assert short in shown
    assert name not in shown
    assert "an unclear question" in shown
    assert "quarantine telecom release ID" in shown
    planned = disputed.json("quarantine", TENANT, "discard", short, "--dry-run")
    assert (planned["done"], planned["examples"]) == (False, 1)
    done = disputed.json("quarantine", TENANT, "discard", short, "--yes")
    assert (done["done"], done["examples"]) == (True, 1)
    assert disputed.json("quarantine", TENANT)["counts"] == {"discarded": 1, "conflict": 1}
    released = disputed.json("quarantine", TENANT, "release", "--reason", "discarded")
    assert (released["done"], released["examples"]) == (True, 1)


def test_conflicts_are_not_released(disputed: Cli) -> None:
    result = disputed.json("quarantine", TENANT, "release", "--reason", "conflict", code=ExitCode.SKIPPED)
    assert result["examples"] == 0
    assert disputed.json("quarantine", TENANT)["counts"] == {"conflict": 2}


def test_a_declined_discard_changes_nothing(disputed: Cli) -> None:
    done = disputed("quarantine", TENANT, "discard", "--reason", "conflict", input="n\n")
    assert done.exit_code == ExitCode.SKIPPED
    assert disputed.json("quarantine", TENANT)["counts"] == {"conflict": 2}


@pytest.mark.parametrize(
    "words",
    [("release",), ("discard", "abc", "--reason", "harmful"), ("list", "--reason", "mood"), ("forget",)],
)
def test_unclear_requests_are_usage_errors(cli: Cli, words: tuple[str, ...]) -> None:
    assert cli("quarantine", TENANT, *words).exit_code == ExitCode.USAGE


def test_an_empty_quarantine_is_told(cli: Cli) -> None:
    assert "no example is quarantined" in cli("quarantine", TENANT).stdout
