"""`init`, `ingest`, `export`, `analyze`: files and standard input, good and bad."""

import json

import pytest

from karen_learner.cli.commands.init import commented_out
from karen_learner.cli.exit_codes import ExitCode
from karen_learner.settings import load_settings, shipped_configs

TENANT = "telecom"
HOSTILE = "[red]x[/red] \x1b[31mbill\x07 \u202eevil :smile:"


def test_init_makes_a_home_and_keeps_what_is_there(empty):
    first = empty.json("init")
    assert first["settings_file_written"] is True
    assert (empty.home / "karen.db").is_file()
    (empty.home / "karen.cfg").write_text("[learning]\nmin_data_threshold = 7\n")
    second = empty("init")
    assert second.exit_code == ExitCode.OK
    assert "unchanged" in second.stdout
    assert f"karen-learner --home {empty.home} bootstrap" in second.stdout
    assert "7" in (empty.home / "karen.cfg").read_text()


def test_the_settings_file_sets_nothing_until_a_line_is_uncommented(tmp_path):
    file = tmp_path / "karen.cfg"
    content = commented_out((shipped_configs() / "default.cfg").read_text(encoding="utf-8"))
    file.write_text(content, encoding="utf-8")
    assert load_settings(file, environment={}) == load_settings(environment={})
    file.write_text(content.replace("#min_data_threshold = 50", "min_data_threshold = 7"), encoding="utf-8")
    assert load_settings(file, environment={}).learning.min_data_threshold == 7


def test_the_settings_file_of_the_home_is_in_force(cli):
    (cli.home / "karen.cfg").write_text("[learning]\nmin_data_threshold = 0\n")
    told = cli("status")
    assert told.exit_code == ExitCode.USAGE
    assert "min_data_threshold" in told.stderr


def test_ingest_reports_what_it_kept_and_left_out(cli, tmp_path):
    file = tmp_path / "more.jsonl"
    file.write_text('{"text": "brand new words", "intent": "billing"}\nrubbish\n')
    report = cli.json("ingest", TENANT, file)
    assert (report["examples"], report["skipped_count"]) == (1, 1)
    told = cli("ingest", TENANT, file)
    assert told.exit_code == ExitCode.OK
    assert "1 duplicates" in told.stdout
    assert "not JSON" in told.stdout


def test_ingest_of_turns(cli, tmp_path):
    file = tmp_path / "turns.jsonl"
    turn = {"user_text": "wifi gone", "assistant_response": "sorry", "user_id": "u1"}
    file.write_text(json.dumps(turn) + "\n")
    assert cli.json("ingest", TENANT, file)["turns"] == 1
    target = tmp_path / "out.jsonl"
    assert cli.json("export", TENANT, target, "--kind", "turns")["count"] == 1
    assert "wifi gone" in target.read_text()


@pytest.mark.parametrize("command", ["ingest", "bootstrap"])
def test_a_file_of_which_nothing_can_be_used(empty, tmp_path, command):
    file = tmp_path / "rubbish.jsonl"
    file.write_text("rubbish\n")
    told = empty(command, TENANT, file)
    assert told.exit_code == ExitCode.ERROR
    assert "is usable: line 1: not JSON" in told.stderr


@pytest.mark.parametrize("command", ["ingest", "bootstrap"])
def test_a_file_that_is_missing_or_of_no_known_kind(empty, tmp_path, command):
    missing = empty(command, TENANT, tmp_path / "nowhere.jsonl")
    assert missing.exit_code == ExitCode.USAGE
    assert "does not exist" in missing.stderr
    odd = tmp_path / "examples.docx"
    odd.write_text("x")
    told = empty(command, TENANT, odd)
    assert told.exit_code == ExitCode.ERROR
    assert ".docx" in told.stderr
    assert "Traceback" not in told.stderr


def test_export(cli, tmp_path):
    target = tmp_path / "out.jsonl"
    told = cli("export", TENANT, target)
    assert told.exit_code == ExitCode.OK
    assert "wrote 36 examples" in told.stdout
    assert len(target.read_text().splitlines()) == 36
    assert cli("export", TENANT, tmp_path / "out.spacy").exit_code == ExitCode.OK


@pytest.mark.parametrize("name", ["out.docx", "file/out.jsonl"])
def test_export_to_where_it_cannot_go(cli, tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    told = cli("export", TENANT, tmp_path / name)
    assert told.exit_code == ExitCode.ERROR
    assert told.stderr.startswith("karen-learner: error: ")
    assert "unexpected" not in told.stderr


def test_analyze_texts(cli):
    told = cli("analyze", TENANT, "where is my bill", "the wifi router")
    assert told.exit_code == ExitCode.OK
    assert "billing" in told.stdout
    assert "outage" in told.stdout
    found = cli.json("analyze", TENANT, "where is my bill")
    assert (found[0]["text"], found[0]["intent"]) == ("where is my bill", "billing")


def test_analyze_the_lines_of_standard_input(cli):
    found = cli.json("analyze", TENANT, "-", input="my bill\n\nthe wifi router")
    assert [item["intent"] for item in found] == ["billing", "outage"]
    assert cli.json("analyze", TENANT, "-", input="") == []


def test_a_text_that_cannot_be_analysed_is_told_by_its_number(cli):
    limit = ("--set", "analysis.max_text_chars=20")
    told = cli("analyze", TENANT, "-", *limit, input="my bill\n" + "long " * 10 + "\n")
    assert told.exit_code == ExitCode.ERROR
    assert "text 2 cannot be analysed" in told.stderr


def test_an_error_after_the_first_answers_leaves_the_array_whole(cli):
    lines = "my bill\n" * 10_000 + "\n" + "long " * 10_000
    told = cli("analyze", TENANT, "-", "--json", input=lines)
    assert told.exit_code == ExitCode.ERROR
    assert "text 10002 cannot be analysed" in told.stderr
    assert {item["intent"] for item in json.loads(told.stdout)} == {"billing"}


def test_a_tenant_without_a_model_is_answered_by_rules(cli, tmp_path):
    file = tmp_path / "one.jsonl"
    file.write_text('{"text": "good morning", "intent": "greeting"}\n')
    assert cli("ingest", "young", file).exit_code == ExitCode.OK
    told = cli("analyze", "young", "hello")
    assert "the rule-based fallback" in told.stdout
    assert "has no model yet" in told.stderr


def test_nothing_in_a_users_text_is_obeyed(cli):
    told = cli("analyze", TENANT, HOSTILE).stdout
    assert r"[red]x[/red] \x1b[31mbill\x07 \u202eevil :smile:" in told
    document = cli("analyze", TENANT, HOSTILE, "--json").stdout
    assert json.loads(document)[0]["text"] == HOSTILE
    assert not any(char in document for char in "\x1b\x07\u202e")


def test_nothing_in_a_name_or_a_reason_is_obeyed(cli):
    assert cli("learn", TENANT, "--reason", HOSTILE).exit_code == ExitCode.SKIPPED
    assert r"[red]x[/red] \x1b[31m" in cli("history", TENANT).stdout
    told = cli("status", "[bold]\x1b[31m")
    assert "\x1b" not in told.output
    assert "[bold]" in told.stderr
