"""`karen_ner`: an entity recognizer that learns on the fly, in place of spaCy's `ner`.

What it does otherwise than `ner`:

- A label can be added at any time and learned from the next update on.
- A token without annotation teaches nothing: what it might be is summed over. A span with a label that the
  pipe does not have is such a gap, too; no label is added in silence.
- Weights move in `finish_update` alone, and only those of features that are present.
- What only learning needs lies apart, in `state/`, and is read when the pipe first learns.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.errors import Errors
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Config, Model, Optimizer

from karen_learner.components.lexical.clusters import word_clusters
from karen_learner.components.ner.architecture import SparseChainShim, chain_of
from karen_learner.components.ner.gold_tags import gold_tags
from karen_learner.components.ner.tags import spans_of
from karen_learner.components.online.optimizer_state import OptimizerStateMixin
from karen_learner.components.online.sample_weights import weights_of

Ints = NDArray[np.int64]

DEFAULT_MODEL = """
[model]
@architectures = "karen_learner.SparseChain.v1"
"""


class KarenEntityRecognizer(OptimizerStateMixin):
    """Finds entities with a linear chain (see `sparse_chain`) and writes them into `doc.ents`."""

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
        """The labels, in the order of the alphabet."""
        return tuple(sorted(self.cfg["labels"]))

    @property
    def label_data(self) -> list[str]:
        """What `initialize` takes as `labels`."""
        return list(self.labels)

    @property
    def is_resizable(self) -> bool:
        """Labels can be added at any time."""
        return True

    @property
    def _chain(self) -> SparseChainShim:
        return chain_of(self.model)

    def add_label(self, label: str) -> int:
        """Add a label at any time: 1 if it is new, 0 if not. It can be learned from the next update on."""
        if not isinstance(label, str):
            raise ValueError(Errors.E187)
        if label in self.cfg["labels"]:
            return 0
        self.vocab.strings.add(label)
        self.cfg["labels"].append(label)
        self._chain.add_labels(len(self.cfg["labels"]))
        return 1

    def predict(self, docs: Iterable[Doc]) -> list[Ints]:
        """The best valid tag of each token of each document (see `entity_tags`)."""
        tags: list[Ints] = self.model.predict(list(docs))
        return tags

    def set_annotations(self, docs: Iterable[Doc], scores: Sequence[Ints]) -> None:
        """Write the entities. Those that another pipe has set before stay, and no new one overlaps them."""
        names = self.cfg["labels"]
        for doc, tags in zip(docs, scores, strict=True):
            if not tags.any():
                doc.set_ents(list(doc.ents), default="outside")
                continue
            spans = [
                Span(doc, start, end, label=names[label]) for start, end, label in spans_of(tags.tolist())
            ]
            doc.set_ents([*doc.ents, *_apart_from(spans, doc.ents)], default="outside")

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,  # noqa: ARG002 - spaCy's interface
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Accumulate gradients for the tokens whose annotation is known.

        The weights move only if `sgd` is given. `drop` is not used: the model has a dropout of its own. What
        an example counts is heeded (see `example_weights`).
        Returns `losses` with the negative log-likelihood of the batch added under the pipe's name.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        losses[self.name] += self._teach(examples, "KarenEntityRecognizer.update", drop=True)
        if sgd is not None:
            self.finish_update(sgd)
        return losses

    def _teach(self, examples: Iterable[Example], caller: str, *, drop: bool) -> float:
        examples = list(examples)
        validate_examples(examples, caller)
        index = self._label_index()
        tags = [gold_tags(example, index) for example in examples]
        docs, counts = [example.predicted for example in examples], weights_of(examples)
        return self._chain.teach(docs, tags, drop=drop, counts=counts)

    def get_loss(self, examples: Iterable[Example], scores: Any) -> tuple[float, Any]:  # noqa: ARG002
        """The negative log-likelihood of the examples; `scores` are not looked at, and nothing is learned."""
        with self._chain.nothing_learned():
            return self._teach(examples, "KarenEntityRecognizer.get_loss", drop=False), None

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,  # noqa: ARG002 - spaCy's interface
        labels: Iterable[str] | None = None,
    ) -> None:
        """Set the labels (by default every one that the examples have) and make new weights."""
        validate_get_examples(get_examples, "KarenEntityRecognizer.initialize")
        for label in _labels_of(get_examples()) if labels is None else labels:
            self.add_label(label)
        clusters = word_clusters(self.vocab.lang) if self._chain.config.word_clusters else None
        self._chain.reset(len(self.cfg["labels"]), clusters=clusters)

    def _label_index(self) -> Mapping[int, int]:
        """The index of each label by its hash."""
        return {self.vocab.strings.add(label): index for index, label in enumerate(self.cfg["labels"])}


def _apart_from(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    if not others:
        return list(spans)
    taken = {token for other in others for token in range(other.start, other.end)}
    return [span for span in spans if taken.isdisjoint(range(span.start, span.end))]


def _labels_of(examples: Iterable[Example]) -> list[str]:
    return sorted({span.label_ for example in examples for span in example.reference.ents})


@Language.factory(
    "karen_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config={
        "model": Config().from_str(DEFAULT_MODEL)["model"],
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
