"""JSON lines: the reader that all others use, and the writer of examples."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from asyncio_extras import call_in_executor

from karen_learner.batching import pages
from karen_learner.errors import ImportFormatError
from karen_learner.records import LabelledText

MAX_LINE_BYTES = 4_000_000
"""Longer lines are errors and are not held in memory."""
PAGE_LINES = 500
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class JsonLine:
    """The JSON value of a line, or the `error` of a line without one. Lines count from 1."""

    number: int
    value: Any = None
    error: str | None = None


def read_json_lines(path: Path) -> Iterator[JsonLine]:
    """The lines of a UTF-8 file with one JSON value a line. Blocking.

    Lines end with a line feed. Blank lines are numbered but omitted, a byte order mark is ignored. NaN,
    Infinity, other encodings and lines above MAX_LINE_BYTES are errors. Raises OSError.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(_byte_lines(file), start=1):
            raw = raw.removeprefix(_BOM) if raw is not None and number == 1 else raw
            if raw is None:
                yield JsonLine(number, error=f"longer than {MAX_LINE_BYTES:,} bytes")
            elif raw.strip():
                yield _decoded(number, raw)


def require_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The numbers and values of all lines. Raises ImportFormatError at the first line with an error."""
    for line in read_json_lines(path):
        if line.error is not None:
            raise ImportFormatError(f"{path} line {line.number}: {line.error}")
        yield line.number, line.value


def _byte_lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines of a file; None for a line that is too long."""
    while raw := file.readline(MAX_LINE_BYTES):
        too_long = len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n")
        while too_long and (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield None if too_long else raw


def _decoded(number: int, raw: bytes) -> JsonLine:
    try:
        return JsonLine(number, parse_json(raw.decode("utf-8")))
    except UnicodeDecodeError as error:
        return JsonLine(number, error=f"not UTF-8: {error.reason} at byte {error.start}")
    except (ValueError, RecursionError) as error:
        return JsonLine(number, error=f"not JSON: {error}")


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError (for NaN and Infinity, too) and RecursionError."""
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def to_line(example: LabelledText, importance_weight: float = 1.0) -> str:
    """The line of an example, without its line feed; unknown labels are left out."""
    line: dict[str, object] = {"text": example.text}
    if importance_weight != 1.0:
        line["importance_weight"] = importance_weight
    if example.intent is not None:
        line["intent"] = example.intent
    if example.sentiment is not None:
        line["sentiment"] = example.sentiment
    if example.entities is not None:
        line["entities"] = [[span.start, span.end, span.label] for span in example.entities]
    return json.dumps(line, ensure_ascii=False)


async def write_lines(
    path: Path,
    examples: AsyncIterable[LabelledText] | Iterable[LabelledText],
    *,
    importance_weights: Iterable[float] = (),
) -> int:
    """Write examples as JSON lines and return their number.

    `importance_weights` follow the order of the examples; missing ones are 1.
    """
    weights = iter(importance_weights)
    return await write_text(path, (to_line(one, next(weights, 1.0)) async for one in _each(examples)))


async def write_text(path: Path, lines: AsyncIterable[str]) -> int:
    """Write lines of text to a new file, a page at a time, and return their number."""
    count = 0
    await call_in_executor(_create, path)
    async for page in pages(lines, PAGE_LINES):
        count += len(page)
        await call_in_executor(_append, path, page)
    return count


async def _each(
    examples: AsyncIterable[LabelledText] | Iterable[LabelledText],
) -> AsyncIterator[LabelledText]:
    if isinstance(examples, AsyncIterable):
        async for example in examples:
            yield example
    else:
        for example in examples:
            yield example


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def _append(path: Path, lines: list[str]) -> None:
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.writelines(line + "\n" for line in lines)
