"""Checks of the documentation: examples run, links resolve, lists are complete."""

import ast
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import karen_learner
from karen_learner.cli import app
from karen_learner.errors import ExitCode

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
QUICK = {
    "KAREN_TRAINING__PIPELINE": str(ROOT / "tests" / "tiny.cfg"),
    "KAREN_TRAINING__LANGUAGE": "xx",
    "KAREN_TRAINING__N_ITER": "3",
    "KAREN_TRAINING__MIN_UPDATES": "0",
    "KAREN_TRAINING__VALIDATION_SPLIT": "0.5",
    "KAREN_LEARNING__MIN_DATA_THRESHOLD": "2",
}
OK_FOR_A_CYCLE = {ExitCode.OK, ExitCode.REJECTED, ExitCode.SKIPPED, ExitCode.TOO_CLOSE}
"""A cycle on the few texts of the examples may be rejected."""
NOTHING_TO_UNDO = ("has no earlier version", "no earlier version", "is live already", "is already live")
CYCLE_ID = r"\b\d{8}T\d{6}-[0-9a-f]{8}\b"
SESSION = "on-call.md"
"""`test_on_call.py` runs this page and compares its outputs."""
LONG_RUNNING = ("simulate", "demo", "serve", "run  ")
"""Commands with tests of their own. `run` alone does not end."""
CRONTAB = """#!/bin/sh
case "$1" in
-l) [ -f "$CRONTAB_FILE" ] && exec cat "$CRONTAB_FILE"; echo "no crontab for you" >&2; exit 1 ;;
-) cat > "$CRONTAB_FILE" ;;
esac
"""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def with_blocks(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the examples, and settings for a short training."""
    monkeypatch.chdir(tmp_path)
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    phrases = {"balance": "what is my balance {}", "travel": "fly me to place {}", "bill": "explain bill {}"}
    gold = [{"text": phrase.format(n), "intent": i} for i, phrase in phrases.items() for n in range(12)]
    turns = [
        {
            "user_text": f"my balance now {n}",
            "assistant_response": "ok",
            "user_id": f"u{n}",
            "user_feedback": {"corrected_intent": "balance"},
        }
        for n in range(8)
    ]
    test = [{"text": phrase.format("one"), "intent": i} for i, phrase in phrases.items()]
    files = {"examples.jsonl": gold, "conversations.jsonl": turns, "test.jsonl": test}
    for name, rows in files.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "texts.txt").write_text("where is my bill\nfly me home\n")
    (tmp_path / "corpus").symlink_to(ROOT / "corpus")
    _replace_crontab(tmp_path / "bin", monkeypatch)
    return tmp_path


def _replace_crontab(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program `crontab` with a file of its own: the examples leave this machine's schedules alone."""
    programs.mkdir()
    (programs / "crontab").write_text(CRONTAB)
    (programs / "crontab").chmod(0o755)
    monkeypatch.setenv("CRONTAB_FILE", str(programs / "crontab.txt"))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


def is_script(source: str) -> bool:
    """Whether a block imports everything that it uses, as a script does."""
    return source.lstrip().startswith(("import ", "from "))


@pytest.mark.parametrize("page", with_blocks("python"), ids=lambda page: page.name)
def test_python_examples_run_as_scripts(page: Path, workplace: Path) -> None:
    for number, source in enumerate(blocks(page, "python")):
        assert is_script(source), f"block {number} of {page.name} does not run on its own"
        script = workplace / f"block_{number}.py"
        script.write_text(source)
        done = subprocess.run(
            [sys.executable, script.name],
            cwd=workplace,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"block {number} of {page.name}\n{done.stdout}\n{done.stderr}"
        assert done.stdout


@pytest.mark.parametrize(
    "page", [page for page in with_blocks("console") if page.name != SESSION], ids=lambda page: page.name
)
def test_console_examples_run(page: Path, workplace: Path) -> None:
    commands = [
        line[2:] for block in blocks(page, "console") for line in block.splitlines() if line[:2] == "$ "
    ]
    assert commands
    prepared = False
    for command in commands:
        if any(f"karen-learner {name}" in command for name in LONG_RUNNING):
            continue
        if not prepared and "--home" not in command:
            _run("karen-learner bootstrap telecom examples.jsonl", workplace)
            prepared = True
        done = _run(_with_names_that_exist(command, workplace), workplace)
        fine = done.exit_code in OK_FOR_A_CYCLE or any(reason in done.stderr for reason in NOTHING_TO_UNDO)
        assert fine, f"{command}\n{done.stdout}\n{done.stderr}"


def _run(command: str, workplace: Path) -> Result:
    """Runs in this process: starting a process for each command takes longer than the commands."""
    words = shlex.split(command.split(" | ")[0].removeprefix("karen-learner "), comments=True)
    typed = None
    if "<" in words:
        *words, _, name = words
        typed = (workplace / name).read_text()
    return CliRunner(env={"KAREN_HOME": None}).invoke(app, words, input=typed)


def _with_names_that_exist(command: str, workplace: Path) -> str:
    """The command with a version and a cycle of the tenant in place of those of the documentation."""
    if re.search(CYCLE_ID, command):
        last = json.loads(_run("karen-learner history telecom --limit 1 --json", workplace).stdout)[0]
        command = re.sub(CYCLE_ID, last["cycle_id"], command)
    if not re.search(r"v\d{4}-[0-9a-f]{8}", command):
        return command
    listed = json.loads(_run("karen-learner versions telecom --json", workplace).stdout)
    rows = listed["versions"] if isinstance(listed, dict) else listed
    another = next((row for row in rows if not row["live"]), rows[0])
    return re.sub(r"v\d{4}-[0-9a-f]{8}", another["version"], command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert not [page for page in pages if page not in site], "add the pages to `nav` of mkdocs.yml"


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of the architecture, without its head."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = section.split("\n\n|")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_the_architecture_has_every_package_in_the_order_of_the_layers() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [re.findall(r"karen_learner\.(\w+)", layer) for layer in contract["contracts"][0]["layers"]]
    ordered = [name for layer in reversed(layers) for name in layer]
    package = ROOT / "karen_learner"
    parts = {path.parent.name + "/" for path in package.glob("*/__init__.py")}
    parts |= {path.name for path in package.glob("*.py")} - {"__init__.py"}
    described = [row[0].strip("`") for row in table("Packages")]
    assert set(described) == parts
    assert [name.removesuffix(".py").strip("/") for name in described] == ordered
    assert not [row[0] for row in table("Packages") if len(row[1].split()) > 25]


def test_every_registered_name_is_described() -> None:
    described = (ROOT / "docs" / "spacy.md").read_text(encoding="utf-8")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    registered = pyproject.split("[project.entry-points.spacy_factories]")[1].split("\n[tool.")[0]
    names = re.findall(r'^"?(karen_[\w.]+)"? = ', registered, flags=re.M)
    assert len(names) >= 9
    assert not [name for name in names if f"`{name}`" not in described]


def imported_packages() -> set[str]:
    """The top-level packages of others that the code imports."""
    modules = set()
    for path in (ROOT / "karen_learner").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module)
    return {name.split(".")[0] for name in modules} - sys.stdlib_module_names - {"karen_learner"}


def test_every_dependency_has_a_reason_and_a_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    used = [extras[name] for name in extras if name not in ("test", "check", "bench")]
    declared = {re.split(r"[\[<>=]", item)[0] for items in (project["dependencies"], *used) for item in items}
    imported = {{"opentelemetry": "opentelemetry-api"}.get(name, name) for name in imported_packages()}
    listed = {name for row in table("Dependencies") for name in re.findall(r"[\w-]+", row[0].split(":")[-1])}
    assert {name.replace("_", "-") for name in declared | imported} <= {
        name.replace("_", "-") for name in listed
    }
    assert all(len(row) == 3 and all(row) for row in table("Dependencies"))


def test_public_names_are_sorted_and_documented() -> None:
    assert list(karen_learner.__all__) == sorted(karen_learner.__all__)
    for name in karen_learner.__all__:
        assert inspect.getdoc(getattr(karen_learner, name)), name
    assert dir(karen_learner) == karen_learner.__all__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        karen_learner.nonsense  # noqa: B018


def test_registered_names_are_frozen() -> None:
    """Configs and saved models contain registered names."""
    ours = {
        (group, entry.name): entry.value
        for group in entry_points().groups
        if group.startswith("spacy_")
        for entry in entry_points(group=group)
        if entry.value.startswith("karen_learner")
    }
    assert ours == {
        (
            "spacy_architectures",
            "karen_learner.SparseNgrams.v1",
        ): "karen_learner.components.textcat.architecture:sparse_ngrams",
        (
            "spacy_architectures",
            "karen_learner.SparseNgrams.v2",
        ): "karen_learner.components.textcat.architecture:sparse_ngrams_v2",
        ("spacy_readers", "karen_learner.Corpus.v1"): "karen_learner.training.spacy_corpus:corpus_reader",
        ("spacy_loggers", "karen_learner.JsonlLogger.v1"): "karen_learner.training.spacy_logger:jsonl_logger",
        ("spacy_factories", "karen_textcat"): "karen_learner.components.textcat.pipe:make_karen_textcat",
        (
            "spacy_factories",
            "karen_textcat_multilabel",
        ): "karen_learner.components.textcat.multilabel:make_karen_textcat_multilabel",
        (
            "spacy_misc",
            "karen_learner.OnnxVectors.v1",
        ): "karen_learner.components.vectors.onnx:onnx_vectors",
        (
            "spacy_misc",
            "karen_learner.StaticVectors.v1",
        ): "karen_learner.components.vectors.base:static_vectors",
        ("spacy_architectures", "karen_learner.SparseChain.v1"): (
            "karen_learner.components.ner.architecture:sparse_chain"
        ),
        ("spacy_factories", "karen_ner"): "karen_learner.components.ner.pipe:make_karen_ner",
    }


def test_importing_the_package_is_cheap() -> None:
    source = "import sys, karen_learner; sys.exit('spacy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0
