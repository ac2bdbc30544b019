"""Training data of Rasa: YAML with the section `nlu`, and the older JSON and Markdown.

https://legacy-docs-oss.rasa.com/docs/rasa/training-data-format
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from srsly.ruamel_yaml import SafeLoader
from srsly.ruamel_yaml.error import YAMLError
from srsly.ruamel_yaml.main import compose
from srsly.ruamel_yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.exporters import ExportFile
from karen_learner.corpora.formats.json_records import read_rasa_json
from karen_learner.corpora.formats.labels import with_known_entities
from karen_learner.corpora.formats.rasa_markup import markup, parse_markup
from karen_learner.corpora.formats.record_format import Values
from karen_learner.corpora.lines import Line, parse_json
from karen_learner.corpora.text_files import read_document
from karen_learner.disk import open_private
from karen_learner.errors import ImportFormatError
from karen_learner.records import LabelledText

SUFFIXES = (".yml", ".yaml")
LITERAL = "|"
MAX_BRACKETS = 100
"""Deepest nesting of brackets in YAML."""
SENTIMENT = "sentiment"
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_HEADING = re.compile(r"##\s*(\w+)\s*:\s*(.*?)\s*$")


class _ShallowLoader(SafeLoader):  # type: ignore[misc]
    """Refuses deep brackets at once: the time that the parser needs for them grows with the cube."""

    def fetch_flow_collection_start(self, *token: Any, **more: Any) -> None:
        if self.flow_level >= MAX_BRACKETS:
            raise YAMLError(f"more than {MAX_BRACKETS} nested brackets")
        super().fetch_flow_collection_start(*token, **more)


class MarkedLine(NamedTuple):
    """A training example: the text with its markup, and the labels of its section."""

    text: str
    labels: dict[str, str]


# Reading -------------------------------------------------------------------------------------


def read_rasa(file: CorpusFile) -> Iterator[Line[Any]]:
    """The training examples of a file, or of all YAML files of a folder.

    Texts without an entity have none if any text of the data has one; otherwise entities are unknown. In a
    folder, the numbers count the examples. Raises ImportFormatError for a file that is not Rasa's.
    """
    if not file.path.is_dir():
        yield from with_known_entities(list(_examples(file.path, file.encoding)))
        return
    paths = sorted(path for path in file.path.rglob("*") if path.suffix.lower() in SUFFIXES)
    found = [(path, line) for path in paths for line in _examples(path, file.encoding, needs_nlu=False)]
    if not found:
        raise ImportFormatError(f"no YAML file below {str(file.path)!r} has a section 'nlu'")
    numbered = [_located(number, path, line) for number, (path, line) in enumerate(found, start=1)]
    yield from with_known_entities(numbered)


def _located(number: int, path: Path, line: Line[Any]) -> Line[Any]:
    error = None if line.error is None else f"{path.name} line {line.line}: {line.error}"
    return Line(number, line.value, error=error, note=line.note)


def _examples(path: Path, encoding: str | None, *, needs_nlu: bool = True) -> Iterator[Line[Any]]:
    text = read_document(path, encoding=encoding)
    if path.suffix.lower() == ".md":
        yield from _markdown_examples(text)
    elif text.lstrip().startswith("{"):
        yield from read_rasa_json(_json(path, text))
    else:
        yield from _yaml_examples(path, text, needs_nlu)


def _json(path: Path, text: str) -> Any:
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        raise ImportFormatError(f"{path.name!r} is not JSON: {error}") from error


def _values(marked: MarkedLine) -> Values:
    """The labels of a training example."""
    text = marked.text.strip()
    found = parse_markup(text)
    return {"text": found.text, "entities": list(found.entities), **marked.labels}


def _lines_of(number: int, marked: MarkedLine) -> Iterator[Line[Any]]:
    """The example, and a note about the parts of its entities that are ignored."""
    line = Line(number, marked).parsed(_values)
    if line.value is not None:
        for part in sorted(parse_markup(marked.text.strip()).ignored):
            yield Line(number, note=f"left out the {part!r} of entities")
    yield line


# YAML ----------------------------------------------------------------------------------------


def _yaml_examples(path: Path, text: str, needs_nlu: bool) -> Iterator[Line[Any]]:
    """The examples of the section `nlu`. Nodes are read, no objects are constructed."""
    try:
        root = compose(text, Loader=_ShallowLoader)
    except (YAMLError, RecursionError, ValueError) as error:
        raise ImportFormatError(f"{path.name!r} is not YAML: {str(error)[:300]}") from error
    sections = _pairs(root)
    if not isinstance(sections.get("nlu"), SequenceNode):
        if needs_nlu:
            raise ImportFormatError(f"{path.name!r} has no section 'nlu' of Rasa's training data")
        return
    for name in sections.keys() - {"nlu", "version"}:
        yield Line(1, note=f"left out the section {name[:60]!r}")
    seen: set[int] = set()
    for item in _distinct(sections["nlu"].value, seen):
        yield from _section_examples(_pairs(item), _line(item), seen)


def _distinct(nodes: Iterable[Node], seen: set[int]) -> Iterator[Node]:
    """The nodes that are not seen yet: aliases of aliases would multiply a small file."""
    for node in nodes:
        if id(node) not in seen:
            seen.add(id(node))
            yield node


def _section_examples(section: Mapping[str, Node], line: int, seen: set[int]) -> Iterator[Line[Any]]:
    intent = section.get("intent")
    if not isinstance(intent, ScalarNode):
        kind = next((key for key in ("synonym", "regex", "lookup") if key in section), None)
        if kind is None:
            yield Line(line, error="needs 'intent', and has " + (", ".join(map(repr, section)) or "no keys"))
        else:
            yield Line(line, note=f"left out sections with {kind!r}")
        return
    labels = {"intent": intent.value}
    examples = section.get("examples")
    if isinstance(examples, ScalarNode) and id(examples) not in seen:
        seen.add(id(examples))
        yield from _block_examples(examples, labels)
    elif isinstance(examples, SequenceNode):
        for item in _distinct(examples.value, seen):
            yield from _listed_example(item, labels)
    else:
        yield Line(line, error=f"the intent {intent.value[:60]!r} has no examples")


def _block_examples(block: ScalarNode, labels: dict[str, str]) -> Iterator[Line[Any]]:
    """The examples of a block of lines that begin with a hyphen."""
    for number, line in enumerate(block.value.split("\n"), start=_first_line(block)):
        at = number if block.style == LITERAL else _line(block)
        if line.strip().startswith("-"):
            yield from _lines_of(at, MarkedLine(line.strip()[1:], labels))
        elif line.strip():
            yield Line(at, error="an example begins with a hyphen")


def _listed_example(item: Node, labels: dict[str, str]) -> Iterator[Line[Any]]:
    """An example with metadata, of which the sentiment is read."""
    pairs = _pairs(item)
    text = pairs.get("text", item)
    if not isinstance(text, ScalarNode):
        yield Line(_line(item), error="an example needs 'text'")
        return
    metadata = _pairs(pairs.get("metadata"))
    sentiment = metadata.get(SENTIMENT)
    stated = {SENTIMENT: sentiment.value} if isinstance(sentiment, ScalarNode) else {}
    for name in metadata.keys() - {SENTIMENT}:
        yield Line(_line(item), note=f"left out {name[:60]!r} of metadata")
    yield from _lines_of(_first_line(text), MarkedLine(text.value, labels | stated))


def _pairs(node: Node | None) -> dict[str, Node]:
    """The keys and nodes of a mapping; nothing for any other node."""
    if not isinstance(node, MappingNode):
        return {}
    return {key.value: value for key, value in node.value if isinstance(key, ScalarNode)}


def _line(node: Node) -> int:
    line: int = node.start_mark.line
    return line + 1


def _first_line(scalar: ScalarNode) -> int:
    """The line of the first line of a text. A literal block begins after its sign."""
    return _line(scalar) + 1 if scalar.style == LITERAL else _line(scalar)


# Markdown ------------------------------------------------------------------------------------


def _markdown_examples(text: str) -> Iterator[Line[Any]]:
    """The examples of Rasa's older Markdown: lists below headings such as `## intent:greet`."""
    intent = None
    for number, line in enumerate(text.split("\n"), start=1):
        if heading := _HEADING.match(line):
            intent = heading[2] if heading[1] == "intent" else None
            if intent is None:
                yield Line(number, note=f"left out sections with {heading[1][:60]!r}")
        elif intent is not None and line.lstrip()[:1] in ("-", "*", "+"):
            yield from _lines_of(number, MarkedLine(line.strip()[1:], {"intent": intent}))


# Writing -------------------------------------------------------------------------------------


def write_rasa(file: ExportFile, examples: Iterable[LabelledText]) -> int:
    """Write the texts that have an intent, and note the labels that Rasa cannot hold."""
    by_intent: dict[str, list[tuple[str, str | None]]] = {}
    written = []
    for example in examples:
        marked = _marked(file, example)
        if marked is not None and example.intent is not None:
            by_intent.setdefault(example.intent, []).append((marked, example.sentiment))
            written.append(example)
    known = any(example.entities for example in written)
    for example in written:
        kept = example.entities or (() if known else None)
        file.compare(example, example.model_copy(update={"entities": kept, "unannotated": ()}))
    with open_private(file.path) as out:
        out.write('version: "3.1"\nnlu:\n')
        for intent, texts in by_intent.items():
            out.write(f"- intent: {_quoted(intent)}\n{_section(texts)}")
    return len(written)


def _marked(file: ExportFile, example: LabelledText) -> str | None:
    """The text with markup; None, with a note, for a text that Rasa cannot hold."""
    if example.intent is None:
        file.note("texts without an intent, which the format cannot hold")
        return None
    marked = markup(example.text, example.entities or ())
    if marked is None or example.text != example.text.strip():
        file.compare(example, None)
        return None
    return marked


def _section(texts: list[tuple[str, str | None]]) -> str:
    """The examples of one intent: a block of lines, or a list if one needs metadata or several lines."""
    if all(sentiment is None and _fits_a_line(marked) for marked, sentiment in texts):
        return "  examples: |\n" + "".join(f"    - {marked}\n" for marked, _ in texts)
    items = []
    for marked, sentiment in texts:
        items.append(f"  - text: {_quoted(marked)}\n")
        if sentiment is not None:
            items.append(f"    metadata:\n      {SENTIMENT}: {_quoted(sentiment)}\n")
    return "  examples:\n" + "".join(items)


def _fits_a_line(marked: str) -> bool:
    return not _UNPRINTABLE.search(marked) and "\n" not in marked and "\r" not in marked


def _quoted(text: str) -> str:
    """A double-quoted scalar of YAML: JSON with escapes for characters that YAML does not print."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
