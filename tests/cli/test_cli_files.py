"""`init`, `ingest`, `export`, `analyze`: valid and invalid files and standard input."""

import json

import pytest

from karen_learner.cli.commands.init import commented_out
from karen_learner.errors import ExitCode
from karen_learner.settings import load_settings, shipped_configs

TENANT = "telecom"
HOSTILE = "[red]x[/red] \x1b[31mbill\x07 \u202eevil :smile:"


def test_init_creates_a_home_and_keeps_existing_files(empty):
    first = empty.json("init")
    assert first["settings_file_written"] is True
    assert (empty.home / "karen.db").is_file()
    (empty.home / "karen.cfg").write_text("[learning]\nmin_data_threshold = 7\n")
    second = empty("init")
    assert second.exit_code == ExitCode.OK
    assert "unchanged" in second.stdout
    assert f"karen-learner --home {empty.home} bootstrap" in second.stdout
    assert "7" in (empty.home / "karen.cfg").read_text()


def test_the_commented_settings_file_keeps_all_defaults(tmp_path):
    file = tmp_path / "karen.cfg"
    content = commented_out((shipped_configs() / "default.cfg").read_text(encoding="utf-8"))
    file.write_text(content, encoding="utf-8")
    assert load_settings(file, environment={}) == load_settings(environment={})
    changed = content.replace("#[learning]", "[learning]").replace(
        "#min_data_threshold = 50", "min_data_threshold = 7"
    )
    file.write_text(changed, encoding="utf-8")
    assert load_settings(file, environment={}).learning.min_data_threshold == 7


def test_every_setting_can_be_appended_to_the_settings_file(tmp_path):
    file = tmp_path / "karen.cfg"
    content = commented_out((shipped_configs() / "default.cfg").read_text(encoding="utf-8"))
    added = '[learning]\nmin_data_threshold = 7\n\n[personas.rules]\nbilling/* = "precise"\n'
    file.write_text(content + added, encoding="utf-8")
    settings = load_settings(file, environment={})
    assert settings.learning.min_data_threshold == 7
    assert settings.personas.rules == {"billing/*": "precise"}
    assert settings.personas.default == load_settings(environment={}).personas.default


def test_the_settings_file_of_the_home_is_read(cli):
    (cli.home / "karen.cfg").write_text("[learning]\nmin_data_threshold = 0\n")
    result = cli("status")
    assert result.exit_code == ExitCode.USAGE
    assert "min_data_threshold" in result.stderr


def test_a_settings_file_that_cannot_be_read_names_file_line_and_remedy(cli):
    file = cli.home / "karen.cfg"
    file.write_text("[learning]\nmin_data_threshold = 1\n[training]\n[learning]\n")
    result = cli("status")
    assert result.exit_code == ExitCode.USAGE
    assert f"{file}: line 4: the section [learning] is there already: move" in result.stderr
    assert "Traceback" not in result.stderr


def test_ingest_reports_imported_and_skipped_lines(cli, tmp_path):
    file = tmp_path / "more.jsonl"
    file.write_text('{"text": "brand new words", "intent": "billing"}\nrubbish\n')
    report = cli.json("ingest", TENANT, file)
    assert (report["examples"], report["skipped_count"]) == (1, 1)
    result = cli("ingest", TENANT, file)
    assert result.exit_code == ExitCode.OK
    assert "1 duplicates" in result.stdout
    assert "not JSON" in result.stdout


def test_imported_turns_can_be_exported(cli, tmp_path):
    file = tmp_path / "turns.jsonl"
    turn = {"user_text": "wifi gone", "assistant_response": "sorry", "user_id": "u1"}
    file.write_text(json.dumps(turn) + "\n")
    assert cli.json("ingest", TENANT, file)["turns"] == 1
    target = tmp_path / "out.jsonl"
    assert cli.json("export", TENANT, target, "--kind", "turns")["count"] == 1
    assert "wifi gone" in target.read_text()


@pytest.mark.parametrize("command", ["ingest", "bootstrap"])
def test_a_file_without_usable_lines_is_an_error(empty, tmp_path, command):
    file = tmp_path / "rubbish.jsonl"
    file.write_text("rubbish\n")
    result = empty(command, TENANT, file)
    assert result.exit_code == ExitCode.ERROR
    assert "is usable: line 1: not JSON" in result.stderr


@pytest.mark.parametrize("command", ["ingest", "bootstrap"])
def test_a_missing_file_and_an_unknown_format_are_errors(empty, tmp_path, command):
    missing = empty(command, TENANT, tmp_path / "nowhere.jsonl")
    assert missing.exit_code == ExitCode.USAGE
    assert "does not exist" in missing.stderr
    odd = tmp_path / "examples.docx"
    odd.write_text("x")
    result = empty(command, TENANT, odd)
    assert result.exit_code == ExitCode.ERROR
    assert ".docx" in result.stderr
    assert "Traceback" not in result.stderr


def test_export_writes_all_examples(cli, tmp_path):
    target = tmp_path / "out.jsonl"
    result = cli("export", TENANT, target)
    assert result.exit_code == ExitCode.OK
    assert "wrote 36 examples" in result.stdout
    assert len(target.read_text().splitlines()) == 36
    assert cli("export", TENANT, tmp_path / "out.spacy").exit_code == ExitCode.OK


@pytest.mark.parametrize("name", ["out.docx", "file/out.jsonl"])
def test_export_to_an_invalid_target_is_an_error(cli, tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    result = cli("export", TENANT, tmp_path / name)
    assert result.exit_code == ExitCode.ERROR
    assert result.stderr.startswith("karen-learner: error: ")
    assert "unexpected" not in result.stderr


def test_analyze_prints_intents_of_argument_texts(cli):
    result = cli("analyze", TENANT, "where is my bill", "the wifi router")
    assert result.exit_code == ExitCode.OK
    assert "billing" in result.stdout
    assert "outage" in result.stdout
    found = cli.json("analyze", TENANT, "where is my bill")
    assert (found[0]["text"], found[0]["intent"]) == ("where is my bill", "billing")


def test_analyze_reads_lines_of_standard_input(cli):
    found = cli.json("analyze", TENANT, "-", input="my bill\n\nthe wifi router")
    assert [item["intent"] for item in found] == ["billing", "outage"]
    assert cli.json("analyze", TENANT, "-", input="") == []


def test_an_invalid_text_is_reported_with_its_number(cli):
    limit = ("--set", "analysis.max_text_chars=20")
    result = cli("analyze", TENANT, "-", *limit, input="my bill\n" + "long " * 10 + "\n")
    assert result.exit_code == ExitCode.ERROR
    assert "text 2 cannot be analysed" in result.stderr


def test_an_error_after_the_first_analyses_closes_the_json_array(cli):
    lines = "my bill\n" * 10_000 + "\n" + "long " * 10_000
    result = cli("analyze", TENANT, "-", "--json", input=lines)
    assert result.exit_code == ExitCode.ERROR
    assert "text 10002 cannot be analysed" in result.stderr
    assert {item["intent"] for item in json.loads(result.stdout)} == {"billing"}


def test_a_tenant_without_a_model_gets_the_rule_based_fallback(cli, tmp_path):
    file = tmp_path / "one.jsonl"
    file.write_text('{"text": "good morning", "intent": "greeting"}\n')
    assert cli("ingest", "young", file).exit_code == ExitCode.OK
    result = cli("analyze", "young", "hello")
    assert "the fallback" in result.stdout
    assert "has no model yet" in result.stderr


def test_markup_and_control_characters_in_texts_are_escaped(cli):
    result = cli("analyze", TENANT, HOSTILE).stdout
    assert r"[red]x[/red] \x1b[31mbill\x07 \u202eevil :smile:" in result
    document = cli("analyze", TENANT, HOSTILE, "--json").stdout
    assert json.loads(document)[0]["text"] == HOSTILE
    assert not any(char in document for char in "\x1b\x07\u202e")


def test_markup_and_control_characters_in_names_and_reasons_are_escaped(cli):
    assert cli("learn", TENANT, "--reason", HOSTILE).exit_code == ExitCode.SKIPPED
    assert r"[red]x[/red] \x1b[31m" in cli("history", TENANT).stdout
    result = cli("status", "[bold]\x1b[31m")
    assert "\x1b" not in result.output
    assert "[bold]" in result.stderr
