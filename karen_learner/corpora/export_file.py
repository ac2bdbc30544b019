"""A file that an exporter writes, and the notes about labels that its format cannot hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from spacy.language import Language

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
