"""`labels`: listed, renamed, merged and retired on the command line."""

import pytest

from karen_learner.errors import ExitCode

TENANT = "telecom"


def names(cli):
    return {row["label"]: row["examples"] for row in cli.json("labels", "list", TENANT)["labels"]}


def test_labels_are_listed(cli):
    assert names(cli) == {"billing": 12, "greeting": 12, "outage": 12}
    result = cli("labels", "list", TENANT)
    assert result.exit_code == ExitCode.OK
    assert "billing" in result.stdout


def test_a_label_is_renamed(cli):
    dry = cli.json("labels", "rename", TENANT, "billing", "invoice", "--dry-run")
    assert (dry["examples"], dry["done"]) == (12, False)
    assert "billing" in names(cli)
    result = cli("labels", "rename", TENANT, "billing", "invoice")
    assert result.exit_code == ExitCode.OK
    assert "intent 'billing' becomes 'invoice'" in result.stdout
    assert f"learn {TENANT} --force" in result.stdout
    assert names(cli) == {"greeting": 12, "invoice": 12, "outage": 12}
    assert cli.json("analyze", TENANT, "pay my invoice bill")[0]["intent"] == "invoice"


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (("merge", TENANT, "billing", "outage"), {"greeting": 12, "outage": 24}),
        (("retire", TENANT, "billing"), {"greeting": 12, "outage": 12}),
    ],
)
def test_merge_and_retire_ask_for_confirmation(cli, words, left):
    declined = cli("labels", *words, input="n\n")
    assert declined.exit_code == ExitCode.SKIPPED
    assert "nothing is changed" in declined.stdout
    assert cli("labels", *words).exit_code == ExitCode.USAGE
    assert len(names(cli)) == 3
    assert cli("labels", *words, "--dry-run").exit_code == ExitCode.OK
    assert len(names(cli)) == 3
    assert cli.json("labels", *words, "--yes")["done"] is True
    assert names(cli) == left


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rename", TENANT, "billing"), "rename needs 2 names of labels, not 1"),
        (("list", TENANT, "billing"), "list needs 0"),
        (("forget", TENANT), "forget"),
        (("retire", TENANT, "billing", "--task", "mood"), "mood"),
    ],
)
def test_unfit_arguments_are_usage_errors(cli, words, message):
    result = cli("labels", *words)
    assert result.exit_code == ExitCode.USAGE
    assert message in result.stderr


def test_an_unknown_label_suggests_a_near_one(cli):
    result = cli("labels", "rename", TENANT, "biling", "x")
    assert result.exit_code == ExitCode.ERROR
    assert "did you mean 'billing'" in result.stderr
