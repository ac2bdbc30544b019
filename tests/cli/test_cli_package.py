"""`package` and `note`."""

from karen_learner.errors import ExitCode

TENANT = "telecom"


def test_a_version_is_packaged(cli, tmp_path):
    result = cli("package", TENANT, "--output", tmp_path)
    assert result.exit_code == ExitCode.OK
    (wheel,) = tmp_path.iterdir()
    assert f"pip install {wheel}" in result.stdout
    assert 'spacy.load("xx_telecom")' in result.stdout
    first = cli.json("versions", TENANT)[-1]["version"]
    document = cli.json("package", TENANT, first, "--output", tmp_path, "--name", "shop")
    assert (document["name"], document["release"], document["model_version"]) == ("xx_shop", "1.0.0", first)


def test_a_note_is_shown_and_removed(cli):
    name = cli.json("versions", TENANT)[0]["version"]
    assert cli("note", TENANT, name, "for the May tariffs").exit_code == ExitCode.OK
    assert "for the May tariffs" in cli("versions", TENANT).stdout
    assert cli.json("note", TENANT, name)["note"] is None
    assert cli("note", TENANT, "v9", "x").exit_code == ExitCode.ERROR
