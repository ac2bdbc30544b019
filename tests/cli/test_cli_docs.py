"""`docs/cli.md` documents exactly the existing commands and options."""

import re
from pathlib import Path

import pytest
import typer

from karen_learner.cli import app
from karen_learner.cli.app import EXIT_CODE_MEANINGS
from karen_learner.cli.options import COMMON

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"
GROUP = typer.main.get_command(app)
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


def sections():
    parts = re.split(r"^## ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {part.partition("\n")[0].strip("`"): part for part in parts[1:]}


def options(command):
    names = {
        name
        for param in command.params
        if param.name not in COMMON
        for name in (*param.opts, *param.secondary_opts)
    }
    return {name for name in names if name.startswith("-")} - {"--help"}


def arguments(command):
    return [param for param in command.params if param.param_type_name == "argument"]


def test_commands_and_sections_of_the_documentation_correspond():
    assert set(sections()) == {*GROUP.commands, "Common options", "Exit codes"}


@pytest.mark.parametrize("name", sorted(GROUP.commands))
def test_documented_options_are_those_of_the_command(name):
    command, section = GROUP.commands[name], sections()[name]
    rows = "\n".join(line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `"))
    assert set(OPTION.findall(rows)) == options(command)


@pytest.mark.parametrize("name", sorted(GROUP.commands))
def test_every_command_has_a_documented_example_and_arguments(name):
    command, section = GROUP.commands[name], sections()[name]
    assert f"karen-learner {name}" in section or f"karen-home {name}" in section
    assert "```console" in section
    for argument in arguments(command):
        assert (argument.metavar or argument.name.upper()).strip("[].") in section


def test_common_options_are_documented_and_accepted_by_every_command():
    section = sections()["Common options"]
    assert all(f"`--{name.replace('_', '-')}" in section for name in COMMON)
    for command in GROUP.commands.values():
        assert set(COMMON) <= {param.name for param in command.params}


def test_exit_codes_are_documented():
    section = sections()["Exit codes"]
    assert all(f"| {code:d} | {meaning} |" in section for code, meaning in EXIT_CODE_MEANINGS.items())
