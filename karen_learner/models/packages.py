"""A version as an installable spaCy package: a wheel, written without network and without build tools.

The layout of the package is that of `spacy package`. See "Binary distribution format" in the Python Packaging
User Guide.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import srsly
from thinc.api import Config

from karen_learner.errors import InvalidInput, ModelError
from karen_learner.models.backups import intact_manifest
from karen_learner.models.files import sync_path
from karen_learner.models.user_code import is_own_factory
from karen_learner.models.versions import MANIFEST, Manifest
from karen_learner.records import ModelVersion
from karen_learner.records.packages import ModelPackage

NAME = re.compile(r"(?!.*__)[a-z][a-z0-9_]{0,99}")
"""Wheels refuse two successive underscores: see "Binary distribution format"."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of all files in a wheel, so that the same version gives the same bytes."""
WHEEL = """\
Wheel-Version: 1.0
Generator: karen_learner
Root-Is-Purelib: true
Tag: py3-none-any
"""
INIT = '''\
from pathlib import Path

from spacy.util import get_model_meta, load_model_from_init_py

__version__ = get_model_meta(Path(__file__).parent)["version"]


def load(**overrides):
    """The pipeline, as `spacy.load`."""
    return load_model_from_init_py(__file__, **overrides)
'''


def write_package(version: ModelVersion, folder: Path, *, name: str | None = None) -> ModelPackage:
    """Write a version as a wheel into the folder, replacing one of the same name and release. Blocks.

    The package is `<language>_<name>`; the default name is the tenant's id. An id with other characters than
    lower-case letters, digits and `_` is changed and gets a digest. Its release is the number of the version:
    `v0012-3f2a9c1e` is 12.0.0. Raises InvalidInput for an unfit name or folder, and ModelError or
    DigestMismatch.
    """
    if name is not None and NAME.fullmatch(name) is None:
        raise InvalidInput(f"{name!r} is no name of a package: use lower-case letters, digits and _")
    manifest = intact_manifest(version)
    meta = _meta(version, manifest, name or default_name(version.tenant_id))
    package, release = f"{meta['lang']}_{meta['name']}", str(meta["version"])
    files = dict(_files(version.path, package, release, meta))
    target = folder / f"{package}-{release}-py3-none-any.whl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_wheel(target, files, package, release, meta["requirements"])
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written: {error.strerror or error}") from error
    return ModelPackage(
        path=target,
        name=package,
        release=release,
        tenant_id=version.tenant_id,
        model_version=version.version,
        requirements=tuple(meta["requirements"]),
        own_components=tuple(_own_components(version.path)),
    )


def default_name(tenant_id: str) -> str:
    """The name of a tenant's package. With the digest of a changed id: similar ids have different names."""
    readable = re.sub(r"[^a-z0-9]+", "_", tenant_id.lower()).strip("_")[:80] or "model"
    if readable == tenant_id:
        return readable
    digest = hashlib.blake2b(tenant_id.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{readable}_{digest}"


def _meta(version: ModelVersion, manifest: Manifest, name: str) -> dict[str, Any]:
    """The `meta.json` of the package."""
    try:
        meta: dict[str, Any] = dict(srsly.read_json(version.path / "meta.json"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{version.path} holds no readable meta.json: {error}") from error
    number = int(re.sub(r"\D", "", version.version.partition("-")[0]) or 0)
    ours = manifest.libraries.get("karen-learner", "0.1.0")
    return {
        **meta,
        "name": name,
        "version": f"{number}.0.0",
        "description": f"{version.version} of karen_learner, trained on {manifest.created_at:%Y-%m-%d}",
        "performance": dict(manifest.scores),
        "requirements": [f"spacy{meta['spacy_version']}", f"karen-learner>={ours}"],
        "karen_learner": {"version": version.version, "tasks": dict(manifest.tasks)},
    }


def _files(
    source: Path, package: str, release: str, meta: Mapping[str, Any]
) -> Iterator[tuple[str, Path | bytes]]:
    """The files of the package by their path in the wheel: content, or the file with the content."""
    encoded = srsly.json_dumps(meta, indent=2).encode()
    yield f"{package}/__init__.py", INIT.encode()
    yield f"{package}/meta.json", encoded
    data = f"{package}/{package}-{release}"
    for file in sorted(source.rglob("*")):
        inside = file.relative_to(source).as_posix()
        if file.is_file() and inside not in (MANIFEST, "meta.json"):
            yield f"{data}/{inside}", file
    yield f"{data}/meta.json", encoded


def _write_wheel(
    target: Path, files: Mapping[str, Path | bytes], package: str, release: str, requirements: Iterable[str]
) -> None:
    """Write a wheel atomically. Its last file lists the digests of the others."""
    info = f"{package}-{release}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {package}", f"Version: {release}"]
    metadata += [f"Requires-Dist: {one}" for one in requirements]
    described = {
        f"{info}/METADATA": "\n".join([*metadata, ""]).encode(),
        f"{info}/WHEEL": WHEEL.encode(),
        f"{info}/entry_points.txt": f"[spacy_models]\n{package} = {package}\n".encode(),
    }
    records: list[str] = []
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
    try:
        with zipfile.ZipFile(partial, "x", zipfile.ZIP_DEFLATED) as wheel:
            for name, content in {**files, **described}.items():
                data = content if isinstance(content, bytes) else content.read_bytes()
                _add(wheel, name, data)
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                records.append(f"{name},sha256={digest},{len(data)}\n")
            _add(wheel, f"{info}/RECORD", "".join([*records, f"{info}/RECORD,,\n"]).encode())
        sync_path(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _add(wheel: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    wheel.writestr(entry, data)


def _own_components(source: Path) -> Iterator[str]:
    """The components whose factories neither spaCy, nor this package, nor an installed package provides."""
    config = Config().from_disk(source / "config.cfg")
    language = config["nlp"]["lang"]
    for name in config["nlp"]["pipeline"]:
        if is_own_factory(config["components"][name].get("factory", ""), language):
            yield name
