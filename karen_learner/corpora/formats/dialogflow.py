"""Agents of Dialogflow ES: `intents/*_usersays_<language>.json` in a ZIP file or a folder, or one such file.

https://cloud.google.com/dialogflow/es/docs/reference/rest/v2/projects.agent/export
"""

from __future__ import annotations

import json
import re
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.exporters import ExportFile
from karen_learner.corpora.formats.labels import with_known_entities
from karen_learner.corpora.formats.record_format import Values
from karen_learner.corpora.lines import CorruptExample, LeftOut, Line, parse_json
from karen_learner.corpora.text_files import MAX_DOCUMENT_CHARS
from karen_learner.disk import open_private
from karen_learner.errors import ImportFormatError
from karen_learner.records import LabelledText

USERSAYS = re.compile(r"(.+)_usersays_([\w-]+)\.json")
IGNORED = "@sys.ignore"
_UNSAFE = re.compile(r"[^\w -]+")


# Reading -------------------------------------------------------------------------------------


def read_dialogflow(file: CorpusFile) -> Iterator[Line[Any]]:
    """The training phrases of an agent. The numbers count them.

    Phrases without an entity have none if any phrase of the agent has one; otherwise entities are unknown.
    Raises ImportFormatError for a file without training phrases.
    """
    documents = dict(_documents(file.path))
    lines: list[Line[Any]] = []
    for name, phrases in documents.items():
        found = USERSAYS.fullmatch(PurePosixPath(name).name)
        if found is not None:
            intent = _intent_name(documents, name, found[1])
            lines += _phrases(len(lines), name, phrases, intent)
    if not lines:
        raise ImportFormatError(
            f"{file.path.name!r} has no training phrases of Dialogflow (*_usersays_*.json)"
        )
    yield from with_known_entities(lines)
    if entries := sum("_entries_" in name for name in documents):
        yield Line(1, note=f"left out the entries of {entries} entities")


def _phrases(before: int, name: str, phrases: Any, intent: str) -> Iterator[Line[Any]]:
    if not isinstance(phrases, list):
        raise ImportFormatError(f"{name!r} is no list of training phrases")
    for position, phrase in enumerate(phrases, start=1):
        line = Line(before + position, phrase).parsed(_values)
        if line.value is not None:
            line.value["intent"] = intent
        error = None if line.error is None else f"{name} phrase {position}: {line.error}"
        yield Line(line.line, line.value, error=error, note=line.note)


def _values(phrase: Any) -> Values:
    if not isinstance(phrase, Mapping) or not isinstance(phrase.get("data"), list):
        raise CorruptExample("is no training phrase of Dialogflow")
    if phrase.get("isTemplate"):
        raise LeftOut("left out templates")
    text, entities = "", []
    for part in phrase["data"]:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            raise CorruptExample("a part of the phrase has no text")
        label = part.get("alias") or part.get("meta")
        if isinstance(label, str) and part.get("meta") != IGNORED and part["text"]:
            entities.append((len(text), len(text) + len(part["text"]), label.removeprefix("@")))
        text += part["text"]
    return {"text": text, "entities": entities}


def _intent_name(documents: Mapping[str, Any], name: str, stem: str) -> str:
    """The name in the intent's own file; without it, that of the file of phrases."""
    about = documents.get(str(PurePosixPath(name).with_name(f"{stem}.json")))
    stated = about.get("name") if isinstance(about, Mapping) else None
    return stated if isinstance(stated, str) and stated else stem


def _documents(path: Path) -> Iterator[tuple[str, Any]]:
    """The JSON documents of an agent by their names."""
    try:
        if path.is_dir():
            for member in sorted(path.rglob("*.json")):
                yield member.relative_to(path).as_posix(), _parsed(member.name, member.read_bytes())
        elif zipfile.is_zipfile(path):
            yield from _zipped_documents(path)
        else:
            yield path.name, _parsed(path.name, path.read_bytes())
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise ImportFormatError(f"{path.name!r} cannot be unpacked: {error}") from error


def _zipped_documents(path: Path) -> Iterator[tuple[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".json")]
        if sum(member.file_size for member in members) > MAX_DOCUMENT_CHARS:
            raise ImportFormatError(
                f"{path.name!r} unpacks to more than {MAX_DOCUMENT_CHARS:,} bytes: split it"
            )
        for member in sorted(members, key=lambda member: member.filename):
            yield member.filename, _parsed(member.filename, archive.read(member))


def _parsed(name: str, content: bytes) -> Any:
    try:
        return parse_json(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ImportFormatError(f"{name!r} is not JSON: {error}") from error


# Writing -------------------------------------------------------------------------------------


@dataclass
class _Intent:
    """The file name of an intent, its training phrases, and the labels of their entities."""

    file: str
    phrases: list[Values] = field(default_factory=list)
    labels: dict[str, None] = field(default_factory=dict)


def write_dialogflow(file: ExportFile, examples: Iterable[LabelledText]) -> int:
    """Write the texts that have an intent as the ZIP file of an agent, and note the losses."""
    intents: dict[str, _Intent] = {}
    words: dict[str, dict[str, None]] = {}
    written = []
    for example in examples:
        if example.intent is None:
            file.note("texts without an intent, which the format cannot hold")
            continue
        intent = intents.setdefault(example.intent, _Intent(_file_name(example.intent, len(intents))))
        intent.phrases.append(_phrase(example, file.language))
        for span in example.entities or ():
            intent.labels[span.label] = None
            words.setdefault(span.label, {})[example.text[span.start : span.end]] = None
        written.append(example)
    for example in written:
        kept = example.entities or (() if words else None)
        file.compare(
            example, example.model_copy(update={"sentiment": None, "entities": kept, "unannotated": ()})
        )
    with open_private(file.path, "wb") as out, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, document in _agent(intents, words, file.language):
            archive.writestr(zipfile.ZipInfo(name), json.dumps(document, ensure_ascii=False, indent=2))
    return len(written)


def _agent(
    intents: Mapping[str, _Intent], words: Mapping[str, Iterable[str]], language: str
) -> Iterator[tuple[str, Any]]:
    """The files of an agent and their documents."""
    yield "package.json", {"version": "1.0.0"}
    yield "agent.json", {"language": language, "supportedLanguages": []}
    for name, intent in intents.items():
        parameters = [
            {"name": label, "dataType": f"@{label}", "value": f"${label}", "isList": True}
            for label in intent.labels
        ]
        yield f"intents/{intent.file}.json", {"name": name, "responses": [{"parameters": parameters}]}
        yield f"intents/{intent.file}_usersays_{language}.json", intent.phrases
    for position, (label, found) in enumerate(words.items()):
        entity = f"entities/{_file_name(label, position)}"
        yield f"{entity}.json", {"name": label, "isEnum": False, "automatedExpansion": True}
        yield f"{entity}_entries_{language}.json", [{"value": one, "synonyms": [one]} for one in found]


def _phrase(example: LabelledText, language: str) -> Values:
    parts, at = [], 0
    for span in sorted(example.entities or (), key=lambda span: span.start):
        parts.append({"text": example.text[at : span.start], "userDefined": False})
        words = example.text[span.start : span.end]
        parts.append({"text": words, "meta": f"@{span.label}", "alias": span.label, "userDefined": True})
        at = span.end
    parts.append({"text": example.text[at:], "userDefined": False})
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{example.intent}\n{example.text}")),
        "data": [part for part in parts if part["text"]],
        "isTemplate": False,
        "count": 0,
        "lang": language,
    }


def _file_name(name: str, position: int) -> str:
    """A file name that no other label has, without characters that a path gives a meaning."""
    return f"{position:04d}-{_UNSAFE.sub('_', name)[:80].strip()}"
