"""`karen_ner`: an entity recognizer that trains online, in place of spaCy's `ner`.

Differences to `ner`:

- Labels can be added at any time. The next update trains them.
- Tokens without annotation produce no gradient: the loss sums over their tags. So do spans with an unknown
  label, which is not added.
- Weights change only in `finish_update`, and only those of present features.
- The learning state is a separate file, `state/weights`, which is loaded when training starts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from spacy.attrs import ENT_IOB
from spacy.errors import Errors
from spacy.language import Language
from spacy.pipeline import EntityRecognizer
from spacy.tokens import Doc, Span
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.util import check_lexeme_norms
from spacy.vocab import Vocab
from thinc.api import Model, Optimizer

from karen_learner.components.arrays import Ints, Mask
from karen_learner.components.ner.architecture import IncorrectSpan, SparseChainShim, chain_of
from karen_learner.components.ner.tags import (
    BEGIN_IOB,
    INSIDE_IOB,
    NO_LABEL,
    OUTSIDE,
    TAGS_PER_LABEL,
    gold_tags,
)
from karen_learner.components.online.sample_weights import sample_weights
from karen_learner.components.online.shim import OptimizerStateMixin

DEFAULT_MODEL = {"@architectures": "karen_learner.SparseChain.v1"}
_MOVES = "BILU"
"""The moves of each label in spaCy's transition system; "O" is the other one."""
_check_lexeme_norms: Callable[[Vocab, str], None] = check_lexeme_norms
_NOT_AN_ENTITY = "O"
"""The label of an incorrect span whose tokens are not all outside of entities."""


class KarenEntityRecognizer(OptimizerStateMixin):
    """Entities in `doc.ents`, predicted by a linear chain (see `sparse_chain`)."""

    def __init__(
        self,
        vocab: Vocab,
        model: Model[list[Doc], list[Ints]],
        name: str = "karen_ner",
        *,
        incorrect_spans_key: str | None = None,
        scorer: Callable[..., dict[str, Any]] | None = None,
    ) -> None:
        """Raises ValueError for a model of another architecture."""
        chain_of(model)
        self.vocab = vocab
        self.model = model
        self.name = name
        self.scorer = scorer
        self.cfg: dict[str, Any] = {"labels": [], "incorrect_spans_key": incorrect_spans_key}
        self._moves: Any = None
        self._rehearsal_model: Model[list[Doc], list[Ints]] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in alphabetical order."""
        return tuple(sorted(self.cfg["labels"]))

    @property
    def label_data(self) -> list[str]:
        """The argument `labels` of `initialize`."""
        return list(self.labels)

    @property
    def is_resizable(self) -> bool:
        """True: labels can be added at any time."""
        return True

    @property
    def incorrect_spans_key(self) -> str | None:
        """The span group of reference documents with spans that are no entities of their label."""
        key: str | None = self.cfg["incorrect_spans_key"]
        return key

    @property
    def moves(self) -> Any:
        """spaCy's transition system with the labels of this pipe, for code that inspects it.

        The pipe neither trains nor predicts with it.
        """
        if self._moves is None:
            actions = EntityRecognizer.TransitionSystem.get_actions(entity_types=self.labels)
            self._moves = EntityRecognizer.TransitionSystem(self.vocab.strings, actions)
        return self._moves

    @property
    def move_names(self) -> list[str]:
        """The BILUO tags of the labels."""
        return [_NOT_AN_ENTITY, *(f"{move}-{label}" for move in _MOVES for label in self.labels)]

    @property
    def _chain(self) -> SparseChainShim:
        return chain_of(self.model)

    def add_label(self, label: str) -> int:
        """Add a label at any time: 1 if it is new, 0 if not. The next update trains it."""
        if not isinstance(label, str):
            raise ValueError(Errors.E187)
        if label in self.cfg["labels"]:
            return 0
        self.vocab.strings.add(label)
        self.cfg["labels"].append(label)
        self._chain.add_labels(len(self.cfg["labels"]))
        if self._moves is not None:
            for action in self._moves.action_types:
                self._moves.add_action(action, label)
        return 1

    def predict(self, docs: Doc | Iterable[Doc]) -> list[Ints]:
        """The best valid tag of each token of each document (see `tags`)."""
        tags: list[Ints] = self.model.predict([docs] if isinstance(docs, Doc) else list(docs))
        return tags

    def set_annotations(self, docs: Iterable[Doc], scores: Sequence[Ints]) -> None:
        """Write the entities. Earlier entities and blocked tokens stay; new entities do not overlap them."""
        names = self.cfg["labels"]
        for doc, tags in zip(docs, scores, strict=True):
            found = spans_of(tags.tolist()) if tags.any() else ()
            spans = [Span(doc, start, end, label=names[label]) for start, end, label in found]
            taken = taken_tokens(doc)
            if taken is None:
                doc.set_ents(spans, default="outside")
                continue
            free = [span for span in spans if not taken[span.start : span.end].any()]
            blocked = [doc[start:end] for start, end in _blocked_spans(doc)]
            doc.set_ents([*doc.ents, *free], blocked=blocked, default="outside")

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,  # noqa: ARG002 - spaCy's interface
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Accumulate the gradients of annotated tokens, by sample weight. Weights change only with `sgd`.

        `drop` is ignored: the model has its own dropout. Returns `losses` with the negative log-likelihood of
        the batch added under the name of the pipe.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        losses[self.name] += self._loss(examples, "update", training=True)
        if sgd is not None:
            self.finish_update(sgd)
        return losses

    def rehearse(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,  # noqa: ARG002 - spaCy's interface
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Learn the entities that the model found in the texts at the last `nlp.resume_training`.

        Annotations of the examples are ignored. Without `resume_training` nothing happens.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "KarenEntityRecognizer.rehearse")
        if self._rehearsal_model is None:
            return losses
        docs = [example.predicted for example in examples]
        tags = chain_of(self._rehearsal_model).best_tags(docs)
        losses[self.name] += self._chain.loss(docs, tags, training=True)
        if sgd is not None:
            self.finish_update(sgd)
        return losses

    def _loss(self, examples: Iterable[Example], caller: str, *, training: bool) -> float:
        examples = list(examples)
        validate_examples(examples, f"KarenEntityRecognizer.{caller}")
        _require_supported_labels(examples)
        index = self._label_index()
        tags = [gold_tags(example, index) for example in examples]
        docs, weights = [example.predicted for example in examples], sample_weights(examples)
        loss = self._chain.loss(docs, tags, training=training, sample_weights=weights)
        if incorrect := list(self._incorrect_spans(examples, index)):
            loss += self._chain.incorrect_loss(
                docs, tags, incorrect, training=training, sample_weights=weights
            )
        return loss

    def _incorrect_spans(
        self, examples: Sequence[Example], index: Mapping[int, int]
    ) -> Iterator[IncorrectSpan]:
        """The incorrect spans of the examples. Raises ValueError for one that is an entity of its example."""
        key = self.incorrect_spans_key
        for text, example in enumerate(examples if key is not None else ()):
            group = example.reference.spans.get(key, [])
            entities = {(span.start_char, span.end_char, span.label) for span in example.reference.ents}
            for span in example.get_aligned_spans_y2x(group, allow_overlap=True):
                where = span.start_char, span.end_char, span.label
                if where in entities:
                    raise ValueError(Errors.E868.format(span=(*where[:2], span.label_)))
                if span.label_ == _NOT_AN_ENTITY or span.label in index:
                    yield IncorrectSpan(text, span.start, span.end, index.get(span.label, NO_LABEL))

    def get_loss(self, examples: Iterable[Example], scores: Any) -> tuple[float, Any]:  # noqa: ARG002
        """Negative log-likelihood of the examples. `scores` are ignored, and no gradient is kept."""
        return self._loss(examples, "get_loss", training=False), None

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,  # noqa: ARG002 - spaCy's interface
        labels: Iterable[str] | None = None,
    ) -> None:
        """Set the labels (by default all labels of the examples) and new weights.

        `labels` may also be the label data of spaCy's `ner`: numbers of labels by move.
        """
        validate_get_examples(get_examples, "KarenEntityRecognizer.initialize")
        _check_lexeme_norms(self.vocab, self.name)
        if labels is None:
            labels = sorted({span.label_ for example in get_examples() for span in example.reference.ents})
        elif isinstance(labels, Mapping):
            labels = sorted({label for moves in labels.values() for label in moves if label})
        for label in labels:
            self.add_label(label)
        self._chain.initialize(len(self.cfg["labels"]), self.vocab.lang)

    def _label_index(self) -> Mapping[int, int]:
        """Index of each label by its hash."""
        return {self.vocab.strings.add(label): index for index, label in enumerate(self.cfg["labels"])}


def spans_of(tags: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Start token, end token and label index of each entity in a valid sequence of tags."""
    start = -1
    for token, tag in enumerate([*tags, OUTSIDE]):
        if start >= 0 and (tag == OUTSIDE or tag % TAGS_PER_LABEL):
            yield start, token, (tags[start] - 1) // TAGS_PER_LABEL
            start = -1
        if tag % TAGS_PER_LABEL:
            start = token


def _blocked_spans(doc: Doc) -> list[tuple[int, int]]:
    """Start and end of each blocked token."""
    return [(token.i, token.i + 1) for token in doc if token.ent_iob == BEGIN_IOB and not token.ent_type]


def _require_supported_labels(examples: Sequence[Example]) -> None:
    """Raises ValueError for the labels of spaCy 2 that mark incorrect entities, such as `!PERSON`."""
    for example in examples:
        for span in example.reference.ents:
            if span.label_.startswith("!"):
                raise ValueError(Errors.E869.format(label=span.label_))


@Language.factory(
    "karen_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config={
        "moves": None,
        "update_with_oracle_cut_size": 100,
        "model": DEFAULT_MODEL,
        "incorrect_spans_key": None,
        "scorer": {"@scorers": "spacy.ner_scorer.v1"},
    },
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_karen_ner(
    nlp: Language,
    name: str,
    model: Model[list[Doc], list[Ints]],
    moves: Any,  # noqa: ARG001 - spaCy's interface
    update_with_oracle_cut_size: int,  # noqa: ARG001 - spaCy's interface
    incorrect_spans_key: str | None,
    scorer: Callable[..., dict[str, Any]] | None,
) -> KarenEntityRecognizer:
    """Make a `karen_ner` pipe.

    `moves` and `update_with_oracle_cut_size` have no effect; they are part of spaCy's interface. The span
    group `incorrect_spans_key` of a reference document has spans that are no entities of their labels.
    """
    return KarenEntityRecognizer(
        nlp.vocab, model, name, incorrect_spans_key=incorrect_spans_key, scorer=scorer
    )


def taken_tokens(doc: Doc) -> Mask | None:
    """Mask (tokens,) of the tokens of entities and of blocked tokens; None without any."""
    if not doc.has_annotation("ENT_IOB"):
        return None
    iob = doc.to_array(ENT_IOB)
    taken: Mask = (iob == BEGIN_IOB) | (iob == INSIDE_IOB)
    return taken if taken.any() else None
