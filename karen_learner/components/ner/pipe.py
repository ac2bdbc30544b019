"""`karen_ner`: an entity recognizer that trains online, in place of spaCy's `ner`.

Differences to `ner`:

- Labels can be added at any time. The next update trains them. - Tokens without annotation produce no
gradient: the loss sums over their tags. Spans with an unknown label are
  treated the same way, and add no label.
- Weights change only in `finish_update`, and only those of present features.
- The learning state is a separate file, `state/weights`, which is loaded when training starts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from spacy.errors import Errors
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Model, Optimizer

from karen_learner.components.arrays import Ints
from karen_learner.components.ner.architecture import SparseChainShim, chain_of
from karen_learner.components.ner.tags import OUTSIDE, TAGS_PER_LABEL, gold_tags
from karen_learner.components.online.sample_weights import sample_weights
from karen_learner.components.online.shim import OptimizerStateMixin

DEFAULT_MODEL = {"@architectures": "karen_learner.SparseChain.v1"}


class KarenEntityRecognizer(OptimizerStateMixin):
    """Entities in `doc.ents`, predicted by a linear chain (see `sparse_chain`)."""

    def __init__(
        self,
        vocab: Vocab,
        model: Model[list[Doc], list[Ints]],
        name: str = "karen_ner",
        *,
        scorer: Callable[..., dict[str, Any]] | None = None,
    ) -> None:
        self.vocab = vocab
        self.model = model
        self.name = name
        self.scorer = scorer
        self.cfg: dict[str, Any] = {"labels": []}

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
        return 1

    def predict(self, docs: Iterable[Doc]) -> list[Ints]:
        """The best valid tag of each token of each document (see `tags`)."""
        tags: list[Ints] = self.model.predict(list(docs))
        return tags

    def set_annotations(self, docs: Iterable[Doc], scores: Sequence[Ints]) -> None:
        """Write the entities. Entities of earlier pipes stay; new ones do not overlap them."""
        names = self.cfg["labels"]
        for doc, tags in zip(docs, scores, strict=True):
            found = spans_of(tags.tolist()) if tags.any() else ()
            spans = [Span(doc, start, end, label=names[label]) for start, end, label in found]
            doc.set_ents([*doc.ents, *_without_overlap(spans, doc.ents)], default="outside")

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

    def _loss(self, examples: Iterable[Example], caller: str, *, training: bool) -> float:
        examples = list(examples)
        validate_examples(examples, f"KarenEntityRecognizer.{caller}")
        index = self._label_index()
        tags = [gold_tags(example, index) for example in examples]
        docs, weights = [example.predicted for example in examples], sample_weights(examples)
        return self._chain.loss(docs, tags, training=training, sample_weights=weights)

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
        """Set the labels (by default all labels of the examples) and new weights."""
        validate_get_examples(get_examples, "KarenEntityRecognizer.initialize")
        if labels is None:
            labels = sorted({span.label_ for example in get_examples() for span in example.reference.ents})
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


def _without_overlap(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    if not others:
        return list(spans)
    taken = {token for other in others for token in range(other.start, other.end)}
    return [span for span in spans if taken.isdisjoint(range(span.start, span.end))]


@Language.factory(
    "karen_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config={
        "model": DEFAULT_MODEL,
        "scorer": {"@scorers": "spacy.ner_scorer.v1"},
    },
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_karen_ner(
    nlp: Language,
    name: str,
    model: Model[list[Doc], list[Ints]],
    scorer: Callable[..., dict[str, Any]] | None,
) -> KarenEntityRecognizer:
    """Make a `karen_ner` pipe."""
    return KarenEntityRecognizer(nlp.vocab, model, name, scorer=scorer)
