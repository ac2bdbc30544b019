"""`doctor`: findings, fixes, and homes that cannot be opened."""

from karen_learner.errors import ExitCode


def test_a_home_is_examined_and_mended(cli):
    cli.home.chmod(0o755)
    result = cli("doctor")
    assert result.exit_code == ExitCode.OK
    assert "warning: home: other accounts" in result.stdout
    assert "--fix mends" in result.stdout
    fixed = cli("doctor", "--fix")
    assert fixed.exit_code == ExitCode.OK
    assert "fixed: home" in fixed.stdout
    document = cli.json("doctor")
    assert document["healthy"] is True
    assert not [one for one in document["findings"] if one["severity"] != "ok"]


def test_a_home_whose_database_cannot_be_opened_is_examined(cli):
    (cli.home / "karen.db").write_text("no database at all, but long enough to be read as one" * 20)
    for suffix in ("-wal", "-shm"):
        (cli.home / f"karen.db{suffix}").unlink(missing_ok=True)
    result = cli("doctor")
    assert result.exit_code == ExitCode.UNHEALTHY
    assert "failing: database:" in result.stdout
    assert "ok: libraries" in result.stdout


def test_a_missing_home_is_an_error(empty):
    assert empty("doctor").exit_code == ExitCode.ERROR
