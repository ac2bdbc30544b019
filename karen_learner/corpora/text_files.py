"""Text files: compressed or not, in UTF-8, UTF-16 or UTF-32, or in a given encoding."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import TextIO, cast

from karen_learner.errors import ImportFormatError

GZIP_MAGIC = b"\x1f\x8b"
GZIP_SUFFIX = ".gz"
MAX_LINE_CHARS = 4_000_000
"""Longer lines are errors and are not held in memory."""
MAX_DOCUMENT_CHARS = 256_000_000
"""Files that must be read as a whole are refused above this length."""


class UndecodedText(ValueError):
    """A line contains bytes that its encoding lacks."""


@contextmanager
def open_text(path: Path, *, encoding: str | None = None, newline: str = "\n") -> Iterator[TextIO]:
    """The text of a file.

    A file that begins with the gzip magic number is decompressed. Without an `encoding`, a byte order mark or
    the zeros of the first four bytes tell UTF-16 and UTF-32 (RFC 4627, section 3); all else is UTF-8. Bytes
    that the encoding lacks become lone surrogates: see `check_decoded`. Raises OSError, and ImportFormatError
    for damaged gzip data or an unknown encoding.
    """
    try:
        with path.open("rb") as raw:  # once: a pipe cannot be opened again
            compressed = raw.peek(2).startswith(GZIP_MAGIC)
            with cast(BufferedReader, gzip.open(raw)) if compressed else raw as file:
                found = encoding_of(file.peek(4)[:4], encoding)
                errors = "replace" if found.startswith(("utf-16", "utf-32")) else "surrogateescape"
                with TextIOWrapper(file, encoding=found, errors=errors, newline=newline) as text:
                    yield text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImportFormatError(f"the gzip data of {path.name!r} are damaged: {error}") from error


def encoding_of(head: bytes, given: str | None) -> str:
    """The encoding of a file that begins with `head`. Raises ImportFormatError for an unknown name."""
    detected = json.detect_encoding(head) if head else "utf-8"
    if given is None:
        return detected
    try:
        name = codecs.lookup(given).name
        b"".decode(name)
    except LookupError as error:
        raise ImportFormatError(f"there is no text encoding {given!r}: give one such as 'cp1252'") from error
    return detected if name == "utf-8" or detected.startswith(name) else name


def text_lines(file: TextIO) -> Iterator[str]:
    """The lines of a file. A line above MAX_LINE_CHARS is cut there, without its line feed."""
    while line := file.readline(MAX_LINE_CHARS):
        rest = line
        while is_cut(rest):
            rest = file.readline(MAX_LINE_CHARS)
        yield line


def is_cut(line: str) -> bool:
    """Whether a line was longer than MAX_LINE_CHARS."""
    return len(line) == MAX_LINE_CHARS and not line.endswith("\n")


def check_decoded(text: str) -> None:
    """Raise UndecodedText if the text has bytes that its encoding lacks."""
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) & 0xFF
        raise UndecodedText(
            f"byte 0x{byte:02x} at character {error.start + 1}: save the file as UTF-8 or give its encoding, "
            "such as cp1252"
        ) from error


def read_document(path: Path, *, encoding: str | None = None) -> str:
    """The whole text of a file. Raises ImportFormatError above MAX_DOCUMENT_CHARS or for undecoded bytes."""
    with open_text(path, encoding=encoding) as file:
        text = file.read(MAX_DOCUMENT_CHARS + 1)
    require_document(path, text)
    return text


def require_document(path: Path, text: str) -> None:
    """Raise ImportFormatError for a text above MAX_DOCUMENT_CHARS or with undecoded bytes."""
    if len(text) > MAX_DOCUMENT_CHARS:
        raise ImportFormatError(f"{path.name!r} is longer than {MAX_DOCUMENT_CHARS:,} characters: split it")
    try:
        check_decoded(text)
    except UndecodedText as error:
        raise ImportFormatError(f"{path.name!r} is not UTF-8: {error}") from error
