"""The command in its own process: imports, pipes and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys

import pytest

from karen_learner.errors import ExitCode

TENANT = "telecom"
COMMAND = (sys.executable, "-c", "from karen_learner.cli import main; main()")
SLOW = ("--set", "training.min_updates=1000000", "--set", "training.n_iter=100000")


def run(*words, **more):
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=False, **more)


def test_help_does_not_import_spacy():
    program = (
        "import sys\nfrom karen_learner.cli import main\n"
        "try:\n    main(['learn', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'spacy', 'thinc', 'numpy', 'sqlalchemy', 'confection'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_asyncio_debug_mode_adds_no_output(cli):
    result = run(
        "--home", cli.home, "status", TENANT, "--json", env={**os.environ, "PYTHONASYNCIODEBUG": "1"}
    )
    assert result.returncode == ExitCode.OK
    assert json.loads(result.stdout)["tenant_id"] == TENANT
    assert result.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "utf-8"])
@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("show", TENANT),
        ("versions", TENANT),
        ("analyze", TENANT, "où — 日本 \u2603"),
        ("--help",),
    ],
)
def test_output_in_any_encoding(cli, encoding, words):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "KAREN_HOME": str(cli.home)}
    result = subprocess.run([*COMMAND, *words], capture_output=True, check=False, env=environment)
    assert result.returncode == ExitCode.OK, result.stderr
    assert b"Traceback" not in result.stderr
    assert result.stdout.decode(encoding)


def test_analyze_answers_each_line_of_a_pipe_at_once(cli):
    words = ("--home", str(cli.home), "analyze", TENANT, "-")
    with subprocess.Popen([*COMMAND, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write("my bill, bitte sch\u00f6n\n".encode())
        process.stdin.flush()
        first = process.stdout.readline().decode()
        process.stdin.close()
        assert "bitte sch\u00f6n" in first
    assert process.returncode == ExitCode.OK


def test_analyze_reads_a_redirected_file(cli, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_bytes(b"my bill\r\nnot utf-8: \xff the wifi router\n")
    with file.open("rb") as texts:
        result = run("--home", cli.home, "analyze", TENANT, "-", "--json", stdin=texts)
    assert [item["text"] for item in json.loads(result.stdout)] == [
        "my bill",
        "not utf-8: \ufffd the wifi router",
    ]


def test_a_closed_output_pipe_prints_no_error(cli):
    command = f"{sys.executable} -c 'from karen_learner.cli import main; main()' --home {cli.home}"
    result = subprocess.run(
        f"yes my bill | head -c 3000000 | {command} analyze {TENANT} - | head -n 1",
        shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "my bill" in result.stdout
    assert result.stderr == ""


def restore_sigint():
    """Restores the default handler: a process in the background of a shell ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_a_cycle_and_the_next_start_completes_the_journal(cli):
    words = ("--home", str(cli.home), "learn", TENANT, "--force", "--mode", "full", "--debug", *SLOW)
    with subprocess.Popen(
        [*COMMAND, *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=restore_sigint,
    ) as process:
        for line in process.stderr:
            if "pass 1 of" in line:
                break
        process.send_signal(signal.SIGINT)
        _, result = process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED
    assert "karen-learner: error: interrupted" in result
    newest = cli.json("history", TENANT)[0]
    assert newest["status"] == "failed"
    assert "training" in newest["error_message"]
    status = cli.json("status", TENANT)
    assert status["running_cycle"] is None
    assert status["champion"]["version"].startswith("v0002")
    assert not list((cli.home / "models").rglob(".staging/*"))


def test_prints_of_imported_code_leave_standard_output_to_the_result(cli, tmp_path):
    noisy = tmp_path / "noisy.py"
    noisy.write_text("print('imported')")
    words = ("--home", cli.home, "--set", f"training.imports={noisy}", "analyze", TENANT, "hello", "--json")
    result = run(*words)
    assert result.returncode == ExitCode.OK, result.stderr
    assert json.loads(result.stdout)[0]["text"] == "hello"
    assert "imported" in result.stderr
