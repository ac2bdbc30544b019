"""CoNLL files: a token and its tag on a line, an empty line between texts. BIO, BILUO and BIOES.

Comments before a text may hold its raw form and its labels: `# text = ...`, `# intent = ...`. Without
`# text`, tokens are joined by spaces. The tag `-` is unknown, as in spaCy; a text may have it in part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import spacy
from spacy.language import Language

from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.exporters import ExportFile
from karen_learner.corpora.formats.labels import category_labels, stated_labels
from karen_learner.corpora.formats.record_format import Values
from karen_learner.corpora.lines import CorruptExample, Line
from karen_learner.corpora.parsing import gold_or_turn
from karen_learner.corpora.text_files import UndecodedText, check_decoded, open_text, text_lines
from karen_learner.disk import open_private
from karen_learner.records import LabelledText

DOCUMENT_START = "-DOCSTART-"
UNKNOWN = "-"
_COMMENT = re.compile(r"#\s*(\w+)\s*=\s?(.*)$", re.S)
_TAG = re.compile(r"(O|-)|([BILUES])-(.+)")
_STARTS, _ENDS = "BUS", "LUES"


@dataclass
class Sentence:
    """The lines of one text: its comments, tokens and tags."""

    line: int = 0
    comments: dict[str, str] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


def read_conll(file: CorpusFile) -> Iterator[Line[Any]]:
    """The texts of a file, numbered by their first lines."""
    sentence: list[tuple[int, str]] = []
    with open_text(file.path, encoding=file.encoding) as opened:
        for number, line in enumerate(text_lines(opened), start=1):
            if line.strip():
                sentence.append((number, line.rstrip("\r\n")))
            else:
                yield from _texts_of(sentence)
                sentence = []
    yield from _texts_of(sentence)


def _texts_of(lines: Sequence[tuple[int, str]]) -> Iterator[Line[Any]]:
    if lines and not lines[0][1].startswith(DOCUMENT_START):
        yield Line(lines[0][0], lines).parsed(_values)


def _values(lines: Sequence[tuple[int, str]]) -> Values:
    sentence = Sentence()
    for number, line in lines:
        try:
            check_decoded(line)
        except UndecodedText as error:
            raise CorruptExample(f"not UTF-8 in line {number}: {error}") from error
        _add_line(sentence, number, line)
    if not sentence.tokens:
        raise CorruptExample("has no tokens")
    text, offsets = _located(sentence)
    labels = stated_labels(sentence.comments)
    if set(sentence.tags) == {UNKNOWN}:
        return {"text": text, **labels}
    unknown = [(*edges, None) for edges, tag in zip(offsets, sentence.tags, strict=True) if tag == UNKNOWN]
    return {"text": text, "entities": [*_spans(sentence.tags, offsets), *unknown], **labels}


def _add_line(sentence: Sentence, number: int, line: str) -> None:
    """Add a comment or a token. Raises CorruptExample for a line without a tag."""
    cells = line.split("\t") if "\t" in line else line.split()
    is_token = len(cells) > 1 and _TAG.fullmatch(cells[-1].strip()) is not None
    if line.startswith("#") and not sentence.tokens and not is_token:
        if found := _COMMENT.match(line):
            sentence.comments[found[1].lower()] = found[2]
        return
    if not is_token:
        raise CorruptExample(f"line {number} has no tag of BIO or BILUO in its last column")
    has_index = len(cells) > 3 and cells[0].strip().isdigit()  # CoNLL-U: the token is in the second column
    sentence.tokens.append(cells[1 if has_index else 0])
    sentence.tags.append(cells[-1].strip())


def _located(sentence: Sentence) -> tuple[str, list[tuple[int, int]]]:
    """The text, and the first and last offset of each token. Raises CorruptExample for another text."""
    stated = sentence.comments.get("text")
    text, offsets, at = " ".join(sentence.tokens) if stated is None else stated, [], 0
    for token in sentence.tokens:
        start = text.find(token, at)
        if start < 0:
            raise CorruptExample("its tokens are not those of '# text'")
        at = start + len(token)
        offsets.append((start, at))
    return text, offsets


def _spans(tags: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int, str]]:
    """The entities of tags."""
    found: list[tuple[int, int, str]] = []
    is_open = False
    for tag, (start, end) in zip(tags, offsets, strict=True):
        kind, _, label = tag.partition("-")
        if not label:
            is_open = False
            continue
        if is_open and kind not in _STARTS and found[-1][2] == label:
            found[-1] = (found[-1][0], end, label)
        else:
            found.append((start, end, label))
        is_open = kind not in _ENDS
    return found


def write_conll(file: ExportFile, examples: Iterable[LabelledText]) -> int:
    """Write texts with BIO tags of the tokens of a language, and note the losses."""
    nlp, count = spacy.blank(file.language), 0
    with open_private(file.path) as out:
        for example in examples:
            written = "\n".join(_lines(nlp, example))
            found = _read_back(written)
            file.compare(example, found)
            if found is not None and found.text == example.text:
                out.write(f"{written}\n\n")
                count += 1
    return count


def _read_back(written: str) -> LabelledText | None:
    """The example that a reader finds in the lines of one text; None if there is none."""
    lines = [line.rstrip("\r\n") for line in written.split("\n")]
    try:
        found = gold_or_turn(_values(list(enumerate(lines, start=1)))) if all(map(str.strip, lines)) else None
    except CorruptExample:
        return None
    return found if isinstance(found, LabelledText) else None


def _lines(nlp: Language, example: LabelledText) -> list[str]:
    doc = nlp.make_doc(example.text)
    tags = ["O" if example.entities is not None else UNKNOWN] * len(doc)
    for token in doc:
        if any(token.idx < end and start < token.idx + len(token) for start, end in example.unannotated):
            tags[token.i] = UNKNOWN
    for span in example.entities or ():
        for token in doc.char_span(span.start, span.end) or ():
            tags[token.i] = f"{'B' if token.idx == span.start else 'I'}-{span.label}"
    comments = {"text": example.text, **category_labels(example)}
    stated = [f"# {key} = {value}" for key, value in comments.items()]
    return stated + [
        f"{token.text}\t{tag}" for token, tag in zip(doc, tags, strict=True) if not token.is_space
    ]
