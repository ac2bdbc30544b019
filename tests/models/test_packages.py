"""A version as a spaCy package: installed, it is the same pipeline."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from karen_learner.errors import InvalidInput, ModelError, UnknownVersion
from karen_learner.learner import AutonomousLearner
from karen_learner.models.packages import NAME, default_name
from tests.conftest import ACME

TEXT = "what is my balance red"
PROGRAM = """
import json, sys
import spacy
from karen_learner import create_spacy_analyzer
nlp = spacy.load("xx_acme")
assert spacy.util.is_package("xx_acme")
assert list(spacy.util.get_installed_models()) == ["xx_acme"]
assert dict(create_spacy_analyzer("xx_acme", tasks=nlp.meta["karen_learner"]["tasks"])._load_base().tasks)
import xx_acme
assert "sentiment" in nlp.pipe_names and "sentiment" not in xx_acme.load(exclude=["sentiment"]).pipe_names
print(json.dumps([nlp.meta["version"], xx_acme.__version__, nlp(sys.argv[1]).cats]))
"""


async def test_an_installed_package_is_the_model(acme: AutonomousLearner, tmp_path: Path) -> None:
    found = await acme.package(ACME, tmp_path / "dist")
    version = (await acme.versions(ACME))[0]
    assert (found.name, found.release, found.model_version) == ("xx_acme", "1.0.0", version.version)
    assert found.path == tmp_path / "dist" / "xx_acme-1.0.0-py3-none-any.whl"
    assert found.own_components == ()
    with zipfile.ZipFile(found.path) as wheel:  # pip does no more for such a wheel
        wheel.extractall(tmp_path / "site")
    program = f"import sys; sys.path.append({str(tmp_path / 'site')!r})\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program, TEXT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    release, module_release, cats = json.loads(done.stdout)
    assert (release, module_release) == ("1.0.0", "1.0.0")
    analysis = await acme.analyze(ACME, TEXT)
    assert cats[analysis.intent] == pytest.approx(analysis.intent_confidence, abs=1e-5)


async def test_the_wheel_lists_the_digest_of_each_file(acme: AutonomousLearner, tmp_path: Path) -> None:
    found = await acme.package(ACME, tmp_path)
    with zipfile.ZipFile(found.path) as wheel:
        names = wheel.namelist()
        record = wheel.read("xx_acme-1.0.0.dist-info/RECORD").decode().splitlines()
        assert [line.split(",")[0] for line in record] == names
        for line in record[:-1]:
            name, digest, size = line.split(",")
            data = wheel.read(name)
            encoded = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={encoded}", len(data))
    assert not any("manifest.json" in name for name in names), "settings and tenant stay at home"
    first = found.path.read_bytes()
    assert (await acme.package(ACME, tmp_path)).path.read_bytes() == first, "the same version, the same bytes"
    assert [path.name for path in tmp_path.glob("*.whl*")] == [found.path.name]


async def test_names_and_versions(acme: AutonomousLearner, tmp_path: Path) -> None:
    version = (await acme.versions(ACME))[0].version
    named = await acme.package(ACME, str(tmp_path), version=version, name="shop_2")
    assert named.name == "xx_shop_2"
    for name in ("Shop", "a-b", "", "../up", "é", "2shop", "a__b", "x" * 101):
        with pytest.raises(InvalidInput, match="no name of a package"):
            await acme.package(ACME, tmp_path, name=name)
    with pytest.raises(UnknownVersion, match="v9"):
        await acme.package(ACME, tmp_path, version="v9")
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be written"):
        await acme.package(ACME, tmp_path / "file")


async def test_a_tenant_with_any_name_has_a_package(acme: AutonomousLearner, tmp_path: Path) -> None:
    await acme.collect_conversation_metadata("Ünï/çode 1", "hello", "", "ann")
    with pytest.raises(UnknownVersion, match="no model yet"):
        await acme.package("Ünï/çode 1", tmp_path)


def test_similar_tenants_have_packages_of_different_names() -> None:
    ids = ["acme_1", "acme-1", "acme 1", "Acme_1", "acme__1", "Ünï/çode 1", "n_ode_1", "日本", "x" * 300]
    names = [default_name(tenant_id) for tenant_id in ids]
    assert len(set(names)) == len(ids)
    assert names[0] == "acme_1"
    assert all(NAME.fullmatch(f"en_{name}") for name in names)


async def test_a_damaged_version_without_a_backup_is_an_error(
    acme: AutonomousLearner, tmp_path: Path
) -> None:
    version = (await acme.versions(ACME))[0]
    (version.path / "config.cfg").write_text("damaged")
    assert version.backup_path is not None
    version.backup_path.unlink()
    with pytest.raises(ModelError):
        await acme.package(ACME, tmp_path)
    assert not list(tmp_path.glob("*.whl*"))


async def test_notes_of_versions(acme: AutonomousLearner) -> None:
    name = (await acme.versions(ACME))[0].version
    noted = await acme.note_version(ACME, name, "trained on the May export \ud800")
    assert noted.note == "trained on the May export \ufffd"
    assert [version.note for version in await acme.versions(ACME)] == [noted.note]
    for note in ("", "  ", "x" * 1001, 7):
        with pytest.raises(InvalidInput, match="a note is a text"):
            await acme.note_version(ACME, name, note)  # type: ignore[arg-type]
    with pytest.raises(UnknownVersion):
        await acme.note_version(ACME, "v9", "x")
    await acme.note_version(ACME, name, None)
    assert (await acme.versions(ACME))[0].note is None
