"""Linguistic features of a text, and the word tables behind them.

The features are numbers and flags for monitoring and for the choice of a persona. They cost about
15 µs for a text of ten tokens, because words are compared and looked up by their hashes.
"""

from __future__ import annotations

import gzip
import json
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from operator import ne
from pathlib import Path
from threading import Lock
from typing import IO

from spacy.strings import get_string_id
from spacy.tokens import Doc
from spacy.util import registry

Value = int | float | bool | str

_SENTENCE_END = re.compile(r"[.!?…。！？؟]+(?=\s|$)")
_LOWER, _UPPER = string.ascii_lowercase.encode(), string.ascii_uppercase.encode()
_EMOJI = re.compile(
    "[\U0001f300-\U0001f5ff\U0001f600-\U0001f64f\U0001f680-\U0001f6ff\U0001f900-\U0001faff"
    "\U0001f1e6-\U0001f1ff\u2600-\u27bf\u2b50\u2b55]"
)

_QUESTION_WORDS = "what who whom whose which when where why how"
# "do" and "have" also start orders ("do it", "have the bill sent"): a question needs an unambiguous subject.
_SUBJECTS = "i you he she we they anyone anybody any"
_MORE_SUBJECTS = "it this that these those there the my your his her our their a an someone"
_AUXILIARIES = {
    "do have": _SUBJECTS,
    "is are am was were does did can could will would should shall may might must has had": (
        f"{_SUBJECTS} {_MORE_SUBJECTS}"
    ),
}
_NEGATIONS = {
    "en": "not n't nt no never none nobody nothing nowhere neither nor cannot without",
    "de": "nicht kein keine keinen keinem keiner nie niemals niemand nichts weder ohne",
    "es": "no nunca jamás nada nadie ninguno ninguna tampoco ni sin",
    "fr": "ne n' pas jamais rien personne aucun aucune ni sans",
    "it": "non mai niente nulla nessuno nessuna né senza",
    "nl": "niet geen nooit niets niemand noch zonder",
    "pt": "não nunca jamais nada ninguém nenhum nenhuma nem sem",
}


def linguistic_features(doc: Doc, *, text: str | None = None) -> dict[str, Value]:
    """Features of a text that need no model. `text` saves the concatenation of the tokens.

    Always: `chars`, `sentences` (an estimate), `question`, `exclamation`, `uppercase_ratio` (of the
    letters), `emoji`, `tokens`, `mean_token_length` (characters), `type_token_ratio`. With a list of
    negations for the language: `negation`. With lemmas of the pipeline or of spacy-lookups-data:
    `lemma_ratio` (distinct lemmas per token) and `inflected_ratio`. With a frequency table: `mean_log_prob`
    (natural logarithm of the unigram probability) and `rare_ratio`.
    """
    text = doc.text if text is None else text
    language = doc.vocab.lang
    tables = word_tables(language)
    words = [token.lower for token in doc]
    features = surface_features(text)
    _add_token_features(features, text, words, language)
    if words:
        _add_lemma_features(features, doc, words, tables)
        _add_probability_features(features, words, tables)
    return features


def surface_features(text: str) -> dict[str, Value]:
    """Features that need no tokens."""
    return {
        "chars": len(text),
        "sentences": _count_sentences(text),
        "question": "?" in text or "？" in text or "؟" in text,
        "exclamation": "!" in text or "！" in text,
        "uppercase_ratio": _uppercase_ratio(text),
        "emoji": 0 if text.isascii() else len(_EMOJI.findall(text)),
    }


def _count_sentences(text: str) -> int:
    """Runs of closing marks, plus an unclosed sentence at the end."""
    ends = _SENTENCE_END.findall(text)
    stripped = text.rstrip()
    unclosed = bool(stripped) and stripped[-1] not in ".!?…。！？؟"
    return len(ends) + unclosed


def _uppercase_ratio(text: str) -> float:
    if text.islower():
        return 0.0
    # Deletion of bytes is ten times as fast as a test of each character.
    if text.isascii():
        raw = text.encode()
        upper = len(raw) - len(raw.translate(None, _UPPER))
        letters = upper + len(raw) - len(raw.translate(None, _LOWER))
    else:
        upper, letters = sum(map(str.isupper, text)), sum(map(str.isalpha, text))
    return upper / letters if letters else 0.0


def _add_token_features(features: dict[str, Value], text: str, words: list[int], language: str) -> None:
    count = len(words)
    features["tokens"] = count
    features["mean_token_length"] = len("".join(text.split())) / count if count else 0.0
    features["type_token_ratio"] = len(set(words)) / count if count else 0.0
    negations = _negations(language)
    if negations:
        features["negation"] = not negations.isdisjoint(words)
    if language == "en" and _opens_as_question(words):
        features["question"] = True


def _add_lemma_features(features: dict[str, Value], doc: Doc, words: list[int], tables: WordTables) -> None:
    lemmas = _lemmas(doc, words, tables)
    if lemmas:
        features["lemma_ratio"] = len(set(lemmas)) / len(words)
        features["inflected_ratio"] = sum(map(ne, lemmas, words)) / len(words)


def _lemmas(doc: Doc, words: list[int], tables: WordTables) -> list[int]:
    """Hashes of lemmas: from the pipeline, else from the table, else none."""
    if doc[0].lemma:
        return [get_string_id(token.lemma_.lower()) for token in doc]
    if tables.lemmas:
        return list(map(tables.lemmas.get, words, words))
    return []


def _add_probability_features(features: dict[str, Value], words: list[int], tables: WordTables) -> None:
    if not tables.log_prob:
        return
    known, unknown, rare_below = tables.log_prob.get, tables.unknown, tables.rare_below
    probabilities = [known(word, unknown) for word in words]
    features["mean_log_prob"] = sum(probabilities) / len(words)
    features["rare_ratio"] = sum([value < rare_below for value in probabilities]) / len(words)


@cache
def _negations(language: str) -> frozenset[int]:
    return _hashes(_NEGATIONS.get(language, ""))


def _hashes(words: str) -> frozenset[int]:
    return frozenset(map(get_string_id, words.split()))


_QUESTION_WORD_HASHES = _hashes(_QUESTION_WORDS)
_INVERTED = {first: _hashes(after) for firsts, after in _AUXILIARIES.items() for first in _hashes(firsts)}
_NOT = get_string_id("n't")


def _opens_as_question(words: list[int]) -> bool:
    """An English question word, or an auxiliary before its subject ("is my", "don't you")."""
    if not words or words[0] in _QUESTION_WORD_HASHES:
        return bool(words)
    subjects = _INVERTED.get(words[0])
    if subjects is None or len(words) < 2:
        return False
    subject = words[2] if words[1] == _NOT and len(words) > 2 else words[1]
    return subject in subjects


# Word tables ----------------------------------------------------------------------------------

FREQUENT_WORDS = 50_000
"""Words beyond this rank get the probability of the word at this rank."""
RARE_RANK = 20_000
"""A word is rare beyond this rank."""
COMMON_WORDS = 5_000

_DECODER = json.JSONDecoder()
_loading = Lock()
_loaded: dict[str, WordTables] = {}


@dataclass(frozen=True)
class WordTables:
    """Frequencies and lemmas of words, from spacy-lookups-data. Empty for a language without tables.

    Keys and lemmas are spaCy's hashes of lower-case words. `log_prob` holds natural logarithms of unigram
    probabilities, `unknown` is that of other words. A word below `rare_below` is rare. `common` are the most
    frequent words as written.

    The frequency tables hold a million words, sorted by falling probability, one word a line. As `Lookups`
    spaCy needs 6 s and 280 MB for them (English). The first 50,000 lines take 0.1 s and 7 MB.
    """

    log_prob: dict[int, float] = field(default_factory=dict)
    unknown: float = 0.0
    rare_below: float = 0.0
    lemmas: dict[int, int] = field(default_factory=dict)
    common: tuple[str, ...] = ()


def word_tables(language: str) -> WordTables:
    """The tables of a language, read once in a process. The first call blocks for 0.2 s."""
    tables = _loaded.get(language)
    if tables is None:
        with _loading:
            tables = _loaded.get(language) or _loaded.setdefault(language, _load(language))
    return tables


def common_words(language: str) -> tuple[str, ...]:
    """The 5,000 most frequent words of a language as written; none without a table."""
    return word_tables(language).common


def _load(language: str) -> WordTables:
    sources = registry.lookups.get(language) if language in registry.lookups else {}
    ranked = [
        (word, float(raw)) for word, raw in islice(_entries(sources.get("lexeme_prob")), FREQUENT_WORDS)
    ]
    if not ranked:
        return WordTables()
    log_prob: dict[int, float] = {}
    for word, value in ranked:
        # The table is sorted: the first spelling of a word is the most frequent one.
        log_prob.setdefault(get_string_id(word.lower()), value)
    return WordTables(
        log_prob=log_prob,
        unknown=ranked[-1][1],
        rare_below=ranked[min(RARE_RANK, len(ranked) - 1)][1],
        lemmas=_read_lemmas(sources.get("lemma_lookup"), log_prob),
        common=tuple(word for word, _ in ranked if not word.isspace())[:COMMON_WORDS],
    )


def _read_lemmas(path: str | Path | None, frequent: dict[int, float]) -> dict[int, int]:
    """The lemmas of frequent words: some languages list half a million inflected forms."""
    lemmas: dict[int, int] = {}
    for word, raw in _entries(path):
        key = get_string_id(word.lower())
        if key in frequent:
            lemmas[key] = get_string_id(json.loads(raw).lower())
    return lemmas


def _entries(path: str | Path | None) -> Iterator[tuple[str, str]]:
    """Keys and raw JSON values of an indented JSON object, read line by line on demand."""
    if path is None:
        return
    with _open(Path(path)) as lines:
        for line in lines:
            entry = line.strip().rstrip(",")
            if entry.startswith('"'):
                key, end = _DECODER.raw_decode(entry)
                yield key, entry[end:].lstrip(": ")


def _open(path: Path) -> IO[str]:
    """Open a plain or compressed file. The packages register the plain name for both."""
    if path.is_file() and path.suffix != ".gz":
        return path.open(encoding="utf8")
    return gzip.open(path if path.suffix == ".gz" else f"{path}.gz", "rt", encoding="utf8")
