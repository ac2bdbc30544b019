"""Backups of a whole home: a snapshot of its database and its model files in one archive.

An archive has the database as `karen.db`, and the turns that wait for their analysis. It has the folders of
models, backups and reports, and the settings file. `backup.json` has a digest for each file. It has no
corpora: cycles write new ones.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath, PureWindowsPath

from karen_learner.disk import make_folder, make_private, open_private
from karen_learner.errors import InvalidInput, ModelError
from karen_learner.models.backups import UNREADABLE, fitting_members
from karen_learner.models.files import (
    HomeLayout,
    file_digest,
    remove_folder,
    replace_file,
    sync_folder,
    sync_path,
)
from karen_learner.models.versions import library_versions
from karen_learner.records import HomeBackup, ModelVersion, Record, utc_now

CONTENTS = "backup.json"
FORMAT = 1
COMPRESSION = 3
DATABASE, MODELS, BACKUPS, SETTINGS = "karen.db", "models", "model_backups", "karen.cfg"
REPORTS, SPOOL = "reports", "spool"
TEMPORARY = (".staging", ".restoring")
OF_FILE_SYSTEMS = "lost+found"
"""A new file system has this folder. An empty home may be one."""
MAX_CONTENTS_BYTES = 256 << 20
_SECTION = re.compile(r"\[([^]]+)\]")
_SETTING = re.compile(r"([A-Za-z_][\w.]*)[ \t]*[=:](.*)")
PARTIAL = ".partial"


class Contents(Record):
    """The list of files in an archive: digests by name, and the champion of each tenant."""

    format: int
    created_at: datetime
    release: str
    champions: Mapping[str, str | None]
    files: Mapping[str, str]


def snapshot_for(target: Path) -> Path:
    """The path for a snapshot of the database next to a new archive. Blocking.

    Raises InvalidInput if the archive exists.
    """
    if target.exists():
        raise InvalidInput(f"{target} exists: give another name")
    make_folder(target.absolute().parent)
    return target.with_name(f"{target.name}.{uuid.uuid4().hex}.db{PARTIAL}")


def write_archive(
    target: Path,
    layout: HomeLayout,
    snapshot: Path,
    champions: Mapping[str, ModelVersion | None],
    spools: Sequence[Path] = (),
) -> HomeBackup:
    """Write the archive of a home atomically, from copies of its database and of its spools. Blocking.

    Raises ModelError if a champion's files are incomplete, or if the snapshot was removed.
    """
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}{PARTIAL}")
    files: dict[str, str] = {}
    try:
        with (
            open_private(partial, "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz", compresslevel=COMPRESSION) as archive,
        ):
            for name, path in _sources(layout, snapshot, spools):
                if (digest := _add(archive, path, name)) is not None:
                    files[name] = digest
            if DATABASE not in files:
                raise ModelError(f"the snapshot {snapshot} was removed during the backup: repeat it")
            _require_champions(layout, files, champions)
            contents = Contents(
                format=FORMAT,
                created_at=utc_now(),
                release=library_versions().get("karen-learner", "unknown"),
                champions={tenant: one and one.version for tenant, one in champions.items()},
                files=files,
            )
            _add_bytes(archive, CONTENTS, contents.model_dump_json(indent=1).encode())
        sync_path(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    sync_path(target.absolute().parent)
    return _report(target, contents, target.stat().st_size)


def restore_home(archive: Path, home: Path, *, dry_run: bool = False) -> HomeBackup:
    """Make a home from an archive. Blocking. With `dry_run` the archive is only checked.

    The archive is first unpacked next to a new home, or inside an empty folder (perhaps a mount point). It is
    compared with its digests, so that a damaged one changes nothing. Settings that name places of the former
    home are commented out, and noted. Raises InvalidInput if the home is not empty, or if the archive is none
    or is damaged.
    """
    if not archive.is_file():
        raise InvalidInput(f"there is no backup at {archive}")
    if home.exists() and (not home.is_dir() or {path.name for path in home.iterdir()} - {OF_FILE_SYSTEMS}):
        raise InvalidInput(f"{home} is not empty: restore to a new folder, or move the present home away")
    home = home.absolute()
    make_folder(home.parent)
    parent = home if home.exists() else home.parent
    unpacked = parent / f".{home.name}.{uuid.uuid4().hex}{PARTIAL}"
    try:
        contents = _unpack(archive, unpacked)
        notes = tuple(_leave_former_places(unpacked / SETTINGS))
        if not dry_run:
            make_private(unpacked)
            sync_folder(unpacked)
            _place(unpacked, home)
    except UNREADABLE as error:
        raise InvalidInput(f"{archive} cannot be restored: {error}") from error
    finally:
        remove_folder(unpacked)
    report = _report(archive, contents, archive.stat().st_size)
    return report.model_copy(update={"done": not dry_run, "notes": notes})


def _place(unpacked: Path, home: Path) -> None:
    """Move the unpacked files to the home. The database comes last: without it a folder is no home."""
    if not home.exists():
        unpacked.rename(home)
    else:
        for path in sorted(unpacked.iterdir(), key=lambda one: one.name == DATABASE):
            path.rename(home / path.name)
        sync_path(home)
    sync_path(home.parent)


def _leave_former_places(file: Path) -> Iterator[str]:
    """Comment out the settings that name a database or folders outside of the home, and describe them.

    The archive has their content inside. The restored home must not write to the places of the former one.
    """
    if not file.is_file():
        return
    lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines(keepends=True)
    section, commented = "", False
    for at, line in enumerate(lines):
        if found := _SECTION.match(line):
            section, commented = found[1].strip().lower(), False
        elif found := _SETTING.match(line):
            commented = _is_former_place(section, found[1].lower(), found[2].strip().strip("\"'"))
            if commented:
                name = f"{section}.{found[1]}"
                yield f"{file.name}: {name} names a place of the former home: it is commented out"
        commented = commented and bool(line.strip())  # a value may continue on further lines
        lines[at] = f"# {line}" if commented else line
    replace_file(file, "".join(lines).encode("utf-8", "surrogateescape"))


def _is_former_place(section: str, name: str, value: str) -> bool:
    if (section, name) == ("store", "url"):
        return bool(value)
    return section == "paths" and (
        _is_absolute(value) or Path(os.path.normpath(value)).parts[:1] in ((), ("..",))
    )


def _is_absolute(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()


def _sources(layout: HomeLayout, snapshot: Path, spools: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """The files of a home with their names in the archive."""
    yield DATABASE, snapshot
    for number, path in enumerate(spools, start=1):
        yield f"{SPOOL}/backup-{number}{path.suffix}", path
    if (layout.home / SETTINGS).is_file():
        yield SETTINGS, layout.home / SETTINGS
    folders = ((layout.model_root, MODELS), (layout.backup_root, BACKUPS), (layout.report_root, REPORTS))
    for root, outside in folders:
        name = _folder_name(layout, root, outside)
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(root)
            unfinished = path.name.endswith(PARTIAL) or any(part in TEMPORARY for part in relative.parts)
            if path.is_file() and not path.is_symlink() and not unfinished:
                yield f"{name}/{relative.as_posix()}", path


def _folder_name(layout: HomeLayout, root: Path, outside: str) -> str:
    """The name of a folder in the archive: its place in the home, as the settings name it."""
    place = Path(os.path.normpath(root))
    if place == layout.home or not place.is_relative_to(layout.home):
        return outside
    return place.relative_to(layout.home).as_posix()


def _add(archive: tarfile.TarFile, path: Path, name: str) -> str | None:
    """Add a file; its digest, or None if a cycle has removed it."""
    try:
        with path.open("rb") as file:
            info = archive.gettarinfo(arcname=name, fileobj=file)
            info.mode, info.uid, info.gid, info.uname, info.gname = 0o600, 0, 0, "", ""
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            archive.addfile(info, file)
    except FileNotFoundError:
        return None
    return digest


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), 0o600, int(utc_now().timestamp())
    archive.addfile(info, io.BytesIO(content))


def _require_champions(
    layout: HomeLayout, files: Mapping[str, str], champions: Mapping[str, ModelVersion | None]
) -> None:
    """Raise ModelError if a champion with files has no manifest in the archive: a clean-up was faster."""
    models = _folder_name(layout, layout.model_root, MODELS)
    for version in champions.values():
        if version is None or not version.path.is_dir():
            continue
        name = f"{models}/{version.path.relative_to(layout.model_root).as_posix()}/manifest.json"
        if name not in files:
            raise ModelError(f"{version.version} was removed during the backup: repeat it")


def _unpack(archive: Path, folder: Path) -> Contents:
    """Unpack plain files below `folder`, and compare them with their digests."""
    make_folder(folder)
    with tarfile.open(archive, "r:gz") as packed:
        for member in fitting_members(packed, folder):
            if not member.isfile() or PurePosixPath(member.name).is_absolute():
                raise tarfile.TarError(f"{member.name!r} is no plain file")
            packed.extract(member, folder, filter="data")
    listed = folder / CONTENTS
    if not listed.is_file():
        raise tarfile.TarError(f"it holds no {CONTENTS}: it is no backup of a home")
    if listed.stat().st_size > MAX_CONTENTS_BYTES:
        raise tarfile.TarError(f"its {CONTENTS} is too large")
    contents = Contents.model_validate_json(listed.read_bytes())
    if contents.format != FORMAT:
        raise tarfile.TarError(f"it has the format {contents.format}, not {FORMAT}: upgrade karen_learner")
    if DATABASE not in contents.files:
        raise tarfile.TarError(f"it holds no {DATABASE}")
    listed.unlink()
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name in sorted(found ^ set(contents.files)):
        raise tarfile.TarError(f"{name} is {'not listed' if name in found else 'missing'}")
    for name, digest in contents.files.items():
        if file_digest(folder / name) != digest:
            raise tarfile.TarError(f"{name} is damaged")
    return contents


def _report(archive: Path, contents: Contents, size: int) -> HomeBackup:
    return HomeBackup(
        archive=archive,
        created_at=contents.created_at,
        release=contents.release,
        files=len(contents.files),
        size=size,
        champions=contents.champions,
    )
