"""Loading of saved pipelines: as `spacy.load`, but faster, and with clear errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import spacy
from spacy.language import Language
from spacy.tokenizer import Tokenizer
from spacy.util import get_model_meta, load_config, load_model_from_config, registry
from spacy.vocab import Vocab

from karen_learner.components.lexical.lookups import word_tables
from karen_learner.concurrency import short_switch_interval
from karen_learner.errors import ModelError, SettingsError
from karen_learner.models.files import folder_bytes
from karen_learner.models.user_code import is_unregistered

logger = logging.getLogger(__name__)

ALWAYS_USABLE = ("en", "xx")
"""Languages whose tokenizers need no further library. The check of another one takes time."""
MAX_STRINGS_BYTES = 4_000_000
"""A larger vocabulary has vectors."""
EMPTY_TOKENIZER = "karen_learner.EmptyTokenizer.v1"


def require_tokenizer(language: str) -> None:
    """Raise SettingsError if spaCy has no tokenizer for `training.language`, or lacks its library. Blocks."""
    if language in ALWAYS_USABLE:
        return
    try:
        spacy.blank(language)
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"training.language: spaCy has no usable tokenizer for {language!r}: {reason}"
        ) from error


def load_pipeline(
    path_or_package: str | Path,
    *,
    words: tuple[Vocab, Tokenizer] | None = None,
    blank: Language | None = None,
) -> Language:
    """`spacy.load`, with every failure as a ModelError. Blocks.

    `words` are vocabulary and tokenizer of another pipeline that was saved with equal ones, in a folder. The
    loaded pipeline takes over those of `blank`, which nothing else uses, if the saved ones fit.
    """
    try:
        folder = Path(path_or_package)
        if words is None and blank is not None and folder.is_dir():
            words = _words_of(blank, folder)
        if words is not None:
            return _load_with_words(folder, *words)
        return _load_folder(folder) if folder.is_dir() else spacy.load(path_or_package)
    except Exception as error:
        failed = f"cannot load a spaCy pipeline from {str(path_or_package)!r}"
        if is_unregistered(error):
            first, *_ = str(error).split(". ")
            raise ModelError(
                f"{failed}: {first}. If your own code registers it, name its module or file in "
                "training.imports"
            ) from error
        raise ModelError(
            f"{failed}: {error} Name a folder written by nlp.to_disk, or an installed package."
        ) from error


def _load_folder(folder: Path) -> Language:
    """As `spacy.load`, in half the time: a tokenizer that the config has made already is not read again."""
    nlp = load_model_from_config(load_config(folder / "config.cfg"), meta=get_model_meta(folder))
    return nlp.from_disk(folder, exclude=["tokenizer"] if is_saved_tokenizer(nlp, folder) else [])


def _load_with_words(folder: Path, vocab: Vocab, tokenizer: Tokenizer) -> Language:
    """As `spacy.load`, without a tokenizer of its own, which takes two thirds of the time."""
    config = load_config(folder / "config.cfg")
    of_tokenizer = config["nlp"]["tokenizer"]
    config["nlp"]["tokenizer"] = {"@tokenizers": EMPTY_TOKENIZER}
    nlp = load_model_from_config(config, vocab=vocab, meta=get_model_meta(folder))
    nlp.config["nlp"]["tokenizer"] = of_tokenizer
    nlp.from_disk(folder, exclude=["vocab", "tokenizer"])
    nlp.tokenizer = tokenizer
    return nlp


def _words_of(blank: Language, folder: Path) -> tuple[Vocab, Tokenizer] | None:
    """Vocabulary and tokenizer of `blank` with the strings of a saved pipeline; None if others are saved."""
    section = {**load_config(folder / "config.cfg")["nlp"], "pipeline": [], "disabled": []}
    if section != blank.config["nlp"] or not is_saved_tokenizer(blank, folder):
        return None
    if folder_bytes(folder / "vocab") > MAX_STRINGS_BYTES:
        return None
    saved = Vocab().from_disk(folder / "vocab")
    if len(saved.vectors) or len(saved.lookups):
        return None
    for string in saved.strings:
        blank.vocab.strings.add(string)
    return blank.vocab, blank.tokenizer


def warm_blank(language: str) -> Language | None:
    """A pipeline without pipes that knows the common words; None for an unusable language. Blocks.

    It is made while a model trains, so that the model is loaded soon afterwards.
    """
    try:
        with short_switch_interval():
            blank = spacy.blank(language)
            tokenize_common_words(blank)
    except (ImportError, ValueError) as error:
        logger.debug("no tokenizer of %r is prepared: %s", language, error)
        return None
    return blank


def tokenize_common_words(nlp: Language) -> None:
    """Tokenize common words outside of a memory zone, so that they stay in the vocabulary.

    A zone drops its new words at its end, which made serving of chat texts 20 % slower than `nlp.pipe`.
    """
    # One text for each word: after a special case, the tokenizer caches no later word of a text.
    for word in word_tables(nlp.lang).common:
        nlp.tokenizer(word)


def _empty_tokenizer() -> Callable[[Language], Tokenizer]:
    """A tokenizer without rules, which is replaced."""
    return lambda nlp: Tokenizer(nlp.vocab)


registry.tokenizers.register(EMPTY_TOKENIZER, func=_empty_tokenizer)


def is_saved_tokenizer(nlp: Language, folder: Path) -> bool:
    """Whether the tokenizer is that of a saved pipeline."""
    tokenizer, file = nlp.tokenizer, folder / "tokenizer"
    if not isinstance(tokenizer, Tokenizer) or not file.is_file():
        return False
    saved: bool = tokenizer.to_bytes(exclude=["vocab"]) == file.read_bytes()
    return saved
