"""Analyses of documents: labels, entities, and linguistic features that need no model.

Words are compared and looked up by their hashes: the features of ten tokens cost about 15 µs.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from operator import ne

from spacy.strings import get_string_id
from spacy.tokens import Doc

from karen_learner.components.lexical.lookups import WordTables, word_tables
from karen_learner.components.textcat.pipe import is_out_of_scope
from karen_learner.models.live import LiveModel
from karen_learner.records import Analysis

Value = int | float | bool | str

_SENTENCE_END = re.compile(r"[.!?…。！？؟]+(?=\s|$)")
_LOWER, _UPPER = string.ascii_lowercase.encode(), string.ascii_uppercase.encode()
_EMOJI = re.compile(
    "[\U0001f300-\U0001f5ff\U0001f600-\U0001f64f\U0001f680-\U0001f6ff\U0001f900-\U0001faff"
    "\U0001f1e6-\U0001f1ff\u2600-\u27bf\u2b50\u2b55]"
)


def _hashes(words: str) -> frozenset[int]:
    return frozenset(map(get_string_id, words.split()))


_QUESTION_WORDS = _hashes("what who whom whose which when where why how")
# "do" and "have" also start orders ("do it", "have the bill sent"): a question needs an unambiguous subject.
_SUBJECTS = _hashes("i you he she we they anyone anybody any")
_MORE_SUBJECTS = _hashes("it this that these those there the my your his her our their a an someone")
_AUXILIARIES = _hashes("is are am was were did does can could will would should shall may might must has had")
_INVERTED = {
    **dict.fromkeys(_hashes("do have"), _SUBJECTS),
    **dict.fromkeys(_AUXILIARIES, _SUBJECTS | _MORE_SUBJECTS),
}
_NOT = get_string_id("n't")
_NEGATIONS = {
    language: _hashes(words)
    for language, words in {
        "en": "not n't nt no never none nobody nothing nowhere neither nor cannot without",
        "de": "nicht kein keine keinen keinem keiner nie niemals niemand nichts weder ohne",
        "es": "no nunca jamás nada nadie ninguno ninguna tampoco ni sin",
        "fr": "ne n' pas jamais rien personne aucun aucune ni sans",
        "it": "non mai niente nulla nessuno nessuna né senza",
        "nl": "niet geen nooit niets niemand noch zonder",
        "pt": "não nunca jamais nada ninguém nenhum nenhuma nem sem",
    }.items()
}


def analysis_of(doc: Doc, text: str, model: LiveModel) -> Analysis | None:
    """The analysis of a document; None if the model has no task.

    Both text categorizers write `doc.cats`: labels assign them to tasks.
    """
    intents, sentiments = model.labels("intent"), model.labels("sentiment")
    intent_pipe, has_entities = model.tasks.get("intent"), "entities" in model.tasks
    if not (intents or sentiments or has_entities):
        return None
    intent, intent_confidence = best_category(doc.cats, intents)
    sentiment, sentiment_confidence = best_category(doc.cats, sentiments)
    # One validation of the whole record costs 2 µs more than `model_construct`, and rejects NaN.
    return Analysis.model_validate(
        {
            "intent": intent,
            "intent_confidence": intent_confidence,
            "out_of_scope": intent_pipe is not None and is_out_of_scope(doc, intent_pipe),
            "sentiment": sentiment,
            "sentiment_confidence": sentiment_confidence,
            "entities": _entities(doc, text) if has_entities else (),
            "linguistic_features": linguistic_features(doc, text=text),
            "model_version": model.version,
        }
    )


def best_category(cats: Mapping[str, float], labels: Sequence[str]) -> tuple[str | None, float]:
    """The label with the highest score, and the score; (None, 0.0) if no label has a score."""
    if not labels:
        return None, 0.0
    scores = [cats.get(label, 0.0) for label in labels]
    top = max(scores)
    if top == 0.0:
        return None, 0.0
    return labels[scores.index(top)], 1.0 if top > 1.0 else top


def _entities(doc: Doc, text: str) -> list[dict[str, int | str]]:
    return [
        {"start": start, "end": end, "label": span.label_, "text": text[start:end]}
        for span in doc.ents
        for start, end in [(span.start_char, span.end_char)]
    ]


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
    words = [token.lower for token in doc]
    count = len(words)
    features = surface_features(text)
    features["tokens"] = count
    features["mean_token_length"] = len("".join(text.split())) / count if count else 0.0
    features["type_token_ratio"] = len(set(words)) / count if count else 0.0
    if language in _NEGATIONS:
        features["negation"] = not _NEGATIONS[language].isdisjoint(words)
    if language == "en" and _opens_as_question(words):
        features["question"] = True
    if words:
        tables = word_tables(language)
        _add_lemma_features(features, doc, words, tables)
        _add_probability_features(features, words, tables)
    return features


def _add_lemma_features(features: dict[str, Value], doc: Doc, words: list[int], tables: WordTables) -> None:
    if doc[0].lemma:
        lemmas = [get_string_id(token.lemma_.lower()) for token in doc]
    elif tables.lemmas:
        lemmas = list(map(tables.lemmas.get, words, words))
    else:
        return
    features["lemma_ratio"] = len(set(lemmas)) / len(words)
    features["inflected_ratio"] = sum(map(ne, lemmas, words)) / len(words)


def _add_probability_features(features: dict[str, Value], words: list[int], tables: WordTables) -> None:
    if not tables.log_prob:
        return
    known, unknown, rare_below = tables.log_prob.get, tables.unknown, tables.rare_below
    probabilities = [known(word, unknown) for word in words]
    features["mean_log_prob"] = sum(probabilities) / len(words)
    features["rare_ratio"] = sum([value < rare_below for value in probabilities]) / len(words)


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


def _opens_as_question(words: list[int]) -> bool:
    """An English question word, or an auxiliary before its subject ("is my", "don't you")."""
    if not words or words[0] in _QUESTION_WORDS:
        return bool(words)
    subjects = _INVERTED.get(words[0])
    if subjects is None or len(words) < 2:
        return False
    subject = words[2] if words[1] == _NOT and len(words) > 2 else words[1]
    return subject in subjects
