"""The doctor finds what is wrong with a home, and mends what needs no decision."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from karen_learner.doctor import EXTRAS, is_healthy, library_findings
from karen_learner.learner import AutonomousLearner
from karen_learner.records.health import Finding
from tests.conftest import ACME, MakeLearner


def problems(findings: tuple[Finding, ...]) -> list[tuple[str, str, bool]]:
    return [(one.area, one.severity, one.fixed) for one in findings if one.severity != "ok"]


@pytest.fixture
def private(taught_home: Path) -> Path:
    taught_home.chmod(0o700)
    return taught_home


async def test_a_healthy_home_has_no_problem(private: Path, acme: AutonomousLearner) -> None:
    findings = await acme.doctor()
    assert problems(findings) == []
    assert {one.area for one in findings} == {"home", "database", "versions", "libraries"}
    assert is_healthy(findings)


async def test_permissions_backups_and_damaged_versions_are_mended(
    private: Path, acme: AutonomousLearner
) -> None:
    (version,) = await acme.versions(ACME)
    assert version.backup_path is not None
    private.chmod(0o755)
    version.backup_path.unlink()
    found = await acme.doctor()
    assert sorted(problems(found)) == [("home", "warning", False), ("versions", "warning", False)]
    assert all(one.fixable for one in found if one.severity != "ok")
    assert sorted(problems(await acme.doctor(fix=True))) == [
        ("home", "warning", True),
        ("versions", "warning", True),
    ]
    assert version.backup_path.is_file()
    assert private.stat().st_mode & 0o077 == 0
    (version.path / "config.cfg").write_text("damaged")
    found = await acme.doctor()
    assert problems(found) == [("versions", "failing", False)]
    assert is_healthy(await acme.doctor(fix=True))
    assert problems(await acme.doctor()) == []


async def test_a_lost_model_needs_a_person(private: Path, make_learner: MakeLearner) -> None:
    async with make_learner(private) as learner:
        (version,) = await learner.versions(ACME)
    assert version.backup_path is not None
    shutil.rmtree(version.path)
    version.backup_path.unlink()
    async with make_learner(private) as learner:
        found = await learner.doctor(fix=True)
        assert not is_healthy(found)
        remedies = {one.remedy for one in found if one.severity == "failing"}
        assert remedies == {"`karen-learner repair acme`"}
        assert len(await learner.versions(ACME)) == 1, "nothing is trained"


async def test_damage_of_the_database_is_found(private: Path, make_learner: MakeLearner) -> None:
    async with make_learner(private) as learner:
        assert not await learner.store.damages()
        if not (private / "karen.db").is_file():
            return
    with closing(sqlite3.connect(private / "karen.db")) as database:
        database.execute("INSERT INTO aliases (tenant, name, version) VALUES (999, 'x', 'y')")
        database.commit()
    async with make_learner(private) as learner:
        failing = [one.message for one in await learner.doctor() if one.severity == "failing"]
    assert failing == ["the database is damaged: a row of aliases refers to a missing row of tenants"]


def test_missing_optional_libraries_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("karen_learner.doctor.find_spec", lambda _: None)
    remedies = [one.remedy for one in library_findings() if one.remedy is not None]
    assert "pip install 'karen-learner[encoder]', for sentence vectors of an encoder" in remedies
    assert len(remedies) == len(EXTRAS)
