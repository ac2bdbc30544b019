"""Exporters by the name of a format. Each writes labelled texts as one kind of file.

A package adds an exporter by an entry point in the group `karen_learner.exporters`, named like the suffix
(`txt = "package.module:write_txt"`). A program adds one by `register_exporter`. Both take a path and labelled
texts, and return the number of written texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spacy.language import Language

from karen_learner.corpora.registry import FormatRegistry
from karen_learner.errors import InvalidInput
from karen_learner.records import TASKS, LabelledText

NO_ENTITIES_LOST = "texts of which the format cannot tell that they have no entities"
UNANNOTATED_LOST = "texts with partially unknown entities, which are read as fully annotated"
NO_ENTITIES_INVENTED = "texts with unknown entities, which are read as texts without entities"


@dataclass(frozen=True)
class ExportFile:
    """The path of an export, and the tokenizer that some formats need: by default that of the language."""

    path: Path
    language: str = "en"
    tokenizer: Language | None = None
    noted: Counter[str] = field(default_factory=Counter)

    def compare(self, example: LabelledText, read_back: LabelledText | None) -> None:
        """Note the labels of an example that an import of the written record would lose or change."""
        if read_back is None or read_back.text != example.text:
            self.note("texts that the format cannot hold")
            return
        if example.unannotated != read_back.unannotated:
            self.note(UNANNOTATED_LOST)
        for task in TASKS:
            given, kept = getattr(example, task), getattr(read_back, task)
            if task == "entities" and given != kept and not given and not kept:
                self.note(NO_ENTITIES_LOST if given is not None else NO_ENTITIES_INVENTED)
            elif given != kept:
                self.note(f"labels of {task} that the format cannot hold")

    def note(self, what: str) -> None:
        """Count something that is lost."""
        self.noted[what] += 1

    @property
    def notes(self) -> tuple[str, ...]:
        """The losses with their numbers."""
        return tuple(f"{count} {what}" for what, count in self.noted.items())


Exporter = Callable[[Path, Iterable[LabelledText]], int]
"""Writes a new file."""
Writer = Callable[[ExportFile, Iterable[LabelledText]], int]
"""An exporter of this library. It notes the labels that its format cannot hold."""

OURS = {
    "conll": "karen_learner.corpora.formats.conll:write_conll",
    "csv": "karen_learner.corpora.formats.tables:write_table",
    "dialogflow": "karen_learner.corpora.formats.dialogflow:write_dialogflow",
    "doccano": "karen_learner.corpora.formats.doccano:DOCCANO.write",
    "jsonl": "karen_learner.corpora.lines:write_json_lines",
    "label-studio": "karen_learner.corpora.formats.label_studio:LABEL_STUDIO.write",
    "prodigy": "karen_learner.corpora.formats.prodigy:PRODIGY.write",
    "rasa": "karen_learner.corpora.formats.rasa:write_rasa",
    "spacy": "karen_learner.corpora.docbin:write_docbin",
    "spacy-json": "karen_learner.corpora.formats.spacy_json:SPACY_JSON.write",
}
SUFFIXES = {
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".conll": "conll",
    ".spacy": "spacy",
    ".yaml": "rasa",
    ".yml": "rasa",
    ".zip": "dialogflow",
}
"""The formats of suffixes. A suffix that equals the name of another format has that format."""

exporters: FormatRegistry[Exporter | Writer] = FormatRegistry("exporter", "karen_learner.exporters", OURS)
register_exporter = exporters.register
"""Decorator of a function that writes a format, see `Exporter`."""


def export_format(path: Path, given: str | None = None) -> str:
    """The name of the format of a target: the given one, else that of its suffix. Raises InvalidInput."""
    name = given or SUFFIXES.get(path.suffix.lower()) or path.suffix.lower().removeprefix(".")
    if given is None and name not in exporters:
        raise InvalidInput(
            f"no exporter for {path.name!r}: write examples to {', '.join(SUFFIXES)}; --to names the format "
            f"of another suffix: {', '.join(exporters.names())}"
        )
    exporters.find(name)
    return name


def write_examples(target: ExportFile, examples: Iterable[LabelledText], name: str) -> int:
    """Write labelled texts in a format. Blocking. Returns their number. Raises OSError."""
    write: Any = exporters.find(name)
    count: int = write(target if exporters.is_ours(name) else target.path, examples)
    return count
