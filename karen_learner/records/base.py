"""Base of all records: names of tasks, sources, states and stages, and checks of texts and ids."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from karen_learner.errors import InvalidInput

if TYPE_CHECKING:
    pass

ItemT = TypeVar("ItemT")

Task = Literal["intent", "sentiment", "entities"]
TASKS: tuple[Task, ...] = ("intent", "sentiment", "entities")
CATEGORY_TASKS: tuple[Task, ...] = ("intent", "sentiment")
"""Tasks with one label for the whole text."""

Source = Literal["seed", "reviewed", "correction", "rating"]
"""Origin of a label: `seed` and `reviewed` are gold, `correction` and `rating` are feedback."""
GOLD_SOURCES: frozenset[Source] = frozenset({"seed", "reviewed"})

ExampleState = Literal["pending", "learned", "conflict", "quarantined"]
CycleMode = Literal["incremental", "full", "micro"]
"""`micro`: an incremental training of the served model alone."""
CycleStatus = Literal["deployed", "rejected", "rolled_back", "skipped", "failed"]
Stage = Literal["curating", "training", "validating", "deploying", "finished", "interrupted"]

IdKind = Literal["cycle", "version", "example"]
"""Kinds of ids that a person may shorten."""

Score = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Features = Mapping[str, int | float | bool | str]
Label = Annotated[str, Field(min_length=1, max_length=200)]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_LOW_62_BITS = (1 << 62) - 1


def utc_now() -> datetime:
    """The current time, timezone-aware."""
    return datetime.now(timezone.utc)


def to_micros(moment: datetime) -> int:
    """Whole microseconds since 1970 (UTC), exact. A time without a timezone is read as UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    return (aware - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The time of whole microseconds since 1970, in UTC."""
    return _EPOCH + micros * _MICROSECOND


class Record(BaseModel):
    """A frozen value without unknown keys. Its fields are attributes and, as in a dict, keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True, defer_build=True
    )

    def to_dict(self) -> dict[str, Any]:
        """The record in JSON types."""
        return self.model_dump(mode="json")

    def keys(self) -> Iterable[str]:
        """Names of the fields."""
        return type(self).model_fields.keys()

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return getattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in type(self).model_fields

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a field; `default` if there is no such field."""
        return getattr(self, name) if name in self else default


MAX_ID_CHARS = 1_000
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_UNFIT_IN_ID = re.compile("[\x00\ud800-\udfff]")


def check_text(text: str, *, limit: int, what: str, setting: str, may_be_blank: bool = False) -> str:
    """The text itself. Raises InvalidInput if it is not a text, blank, or longer than `limit` characters.

    The message names `setting`, which changes the limit.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"{what} must be a text, not {type(text).__name__}")
    if not may_be_blank and (not text or text.isspace()):
        raise InvalidInput(f"{what} is empty")
    if len(text) > limit:
        raise InvalidInput(
            f"{what} has {len(text):,} characters, more than the {limit:,} allowed: "
            f"shorten it or raise the setting {setting}"
        )
    return text


def replace_unfit(text: str) -> str:
    """Replace lone surrogates and C0 controls by U+FFFD, which neither spaCy nor a database can hold.

    Keeps tab, newline and carriage return. One for one, so that character offsets stay valid.
    """
    return _UNFIT.sub(REPLACEMENT, text)


def check_limit(value: int, what: str = "limit") -> int:
    """The maximum number of items: an integer of at least 0. Raises InvalidInput."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInput(f"{what} must be a number of at least 0, not {value!r}")
    return value


def check_several(values: Iterable[ItemT], what: str) -> Iterable[ItemT]:
    """Several values, not a single text or mapping. Raises InvalidInput."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise InvalidInput(f"{what} must be several values, such as a list, not {type(values).__name__}")
    return values


def check_id(value: str, what: str) -> str:
    """The id: a text of 1 to 1,000 characters without NUL and lone surrogates. Raises InvalidInput."""
    if not isinstance(value, str):
        raise InvalidInput(f"{what} must be a text, not {type(value).__name__}")
    if not value or len(value) > MAX_ID_CHARS:
        raise InvalidInput(f"{what} must have 1 to {MAX_ID_CHARS:,} characters, not {len(value):,}")
    if _UNFIT_IN_ID.search(value):
        raise InvalidInput(f"{what} contains a NUL or a lone surrogate: {value[:60]!r}")
    return value


def new_id() -> str:
    """A UUID of version 7, as 32 hexadecimal digits: the time in milliseconds, then 74 random bits.

    Successive ids are neighbours in the store's index. With random ids each turn writes another page of the
    index, which halves the rate of stored turns. See RFC 9562, section 5.7.
    """
    random = secrets.randbits(74)
    version_and_random = (7 << 76) | (random >> 62 << 64) | (2 << 62) | (random & _LOW_62_BITS)
    return f"{(time.time_ns() // 1_000_000 << 80) | version_and_random:032x}"
