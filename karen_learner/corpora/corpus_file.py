"""A file of labelled texts or turns, and how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from karen_learner.corpora.parsing import TurnInput, near_key
from karen_learner.corpora.text_files import GZIP_SUFFIX, encoding_of
from karen_learner.errors import InvalidInput
from karen_learner.records import LabelledText, UserFeedback
from karen_learner.records.offsets import OFFSET_UNITS, OffsetUnit

TEXT_KEYS = frozenset(LabelledText.model_fields)
TURN_KEYS = frozenset(TurnInput.model_fields)
FEEDBACK_KEYS = frozenset(UserFeedback.model_fields)
KNOWN_KEYS = TEXT_KEYS | TURN_KEYS | FEEDBACK_KEYS
"""Keys of labelled texts, of turns, and of the feedback of a turn, which may stand beside its other keys."""


@dataclass(frozen=True)
class CorpusFile:
    """A file, or a folder for some formats.

    `format` is the name of an importer; without it, suffix and content decide. `keys` renames keys or columns
    of the file, such as `{"label": "intent"}`. `encoding` is needed for a text that is neither UTF-8 nor
    UTF-16 with a byte order mark. `offsets` is the unit of the offsets of entities; formats that define it
    ignore it. Raises InvalidInput for an unknown key, encoding or unit.
    """

    path: Path
    format: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    offsets: OffsetUnit = "characters"

    def __post_init__(self) -> None:
        encoding_of(b"", self.encoding)
        if self.offsets not in OFFSET_UNITS:
            raise InvalidInput(f"the unit {self.offsets!r} of offsets is none of {', '.join(OFFSET_UNITS)}")
        for foreign, ours in self.keys.items():
            if ours not in KNOWN_KEYS:
                near = near_key(ours, KNOWN_KEYS)
                hint = (
                    f"did you mean {near!r}?" if near else f"known keys are {', '.join(sorted(KNOWN_KEYS))}"
                )
                raise InvalidInput(f"{foreign!r} cannot be read as {ours!r}: {hint}")

    @classmethod
    def of(cls, source: CorpusFile | Path | str) -> CorpusFile:
        """The source itself, or the file at a path."""
        return source if isinstance(source, CorpusFile) else cls(Path(source))

    @property
    def suffix(self) -> str:
        """The suffix in lower case, without that of compression."""
        return Path(self.path.name.lower().removesuffix(GZIP_SUFFIX)).suffix

    def name(self, key: str) -> str:
        """Our name of a key: renamed, or a known key in another case or with space around it."""
        if key in self.keys:
            return self.keys[key]
        plain = key.strip().casefold()
        return plain if plain in KNOWN_KEYS else key
