"""The pipeline that the worker trains: opening, pipes and labels, examples, saving."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple, Self

import spacy
import srsly
from spacy.attrs import ORTH, SPACY
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Config

from karen_learner.components.documents import make_doc
from karen_learner.components.ner.tags import MISSING_IOB
from karen_learner.components.online.sample_weights import sample_weight, set_sample_weight
from karen_learner.components.online.shim import learning_shims
from karen_learner.components.textcat.pipe import KarenTextCategorizer, make_new_labels_learnable
from karen_learner.errors import PipelineUnsuitable
from karen_learner.models.loading import load_pipeline
from karen_learner.records import TASKS, Task
from karen_learner.records.training import LabelSchema, PipelineSpec

logger = logging.getLogger(__name__)

TEMPLATE_PIPES: Mapping[Task, str] = {"intent": "intent", "sentiment": "sentiment", "entities": "ner"}
"""The pipe of each task in our pipeline configs."""
MIN_CATEGORIES = 2
MAX_SHARED_BYTES = 4_000_000
"""A larger vocabulary has vectors, and is not compared with another one."""


class SharedWords(NamedTuple):
    """Vocabulary and tokenizer that pipelines with the same files share: new ones take 70 ms.

    `digest` identifies the files. `kept_strings` are those of `TrainablePipeline`.
    """

    digest: str
    vocab: Vocab
    tokenizer: Any
    kept_strings: Set[str]


def words_digest(folder: Path) -> str | None:
    """Digest of the files that define vocabulary and tokenizer of a saved pipeline.

    None for an installed package, for a large vocabulary, and for a tokenizer that is no single file.
    """
    tokenizer, config = folder / "tokenizer", folder / "config.cfg"
    if not (tokenizer.is_file() and config.is_file()):
        return None
    files = [tokenizer, *sorted(file for file in (folder / "vocab").rglob("*") if file.is_file())]
    if sum(file.stat().st_size for file in files) > MAX_SHARED_BYTES:
        return None
    head, _, _ = config.read_text(encoding="utf-8").partition("\n[components]")  # with [nlp.tokenizer]
    _, _, language = head.partition("\n[nlp]")
    total = hashlib.blake2b(language.encode(), digest_size=16)
    for file in files:
        total.update(repr((file.name, file.stat().st_size)).encode())
        total.update(file.read_bytes())
    return total.hexdigest()


class TrainablePipeline:
    """A pipeline in training.

    `kept_strings` is its string store before any training text. Only these strings and the labels are saved,
    so that a model holds no words of training texts. A pipeline `from_template` had no pipes.
    """

    def __init__(
        self,
        nlp: Language,
        tasks: Mapping[Task, str],
        template: Config,
        *,
        kept_strings: Set[str] | None = None,
        from_template: bool = False,
    ) -> None:
        self.nlp = nlp
        self.tasks: dict[Task, str] = dict(tasks)
        self.kept_strings = set(nlp.vocab.strings) if kept_strings is None else kept_strings
        self.from_template = from_template
        self._template = template

    @classmethod
    def open(
        cls, spec: PipelineSpec, *, former: Self | None = None, words: SharedWords | None = None
    ) -> Self:
        """Load the pipeline of `spec`, or make an empty one of its language.

        An empty one takes tokenizer and vocabulary of a `former` one without pipes. A saved one takes those
        of `words` if its files are the same.
        """
        template = Config().from_disk(spec.template, interpolate=True)
        if spec.path is None:
            if former is None:
                return cls(spacy.blank(spec.language), {}, template, from_template=True)
            return cls(former.nlp, {}, template, kept_strings=former.kept_strings, from_template=True)
        if words is not None and words.digest == words_digest(Path(spec.path)):
            nlp = load_pipeline(spec.path, words=(words.vocab, words.tokenizer))
            pipeline = cls(nlp, spec.tasks, template, kept_strings=words.kept_strings)
        else:
            pipeline = cls(load_pipeline(spec.path), spec.tasks, template)
        pipeline._check_tasks()
        pipeline._copy_shared_embeddings()
        return pipeline

    def shared_words(self, folder: Path) -> SharedWords | None:
        """Vocabulary and tokenizer of this pipeline, which is saved in the folder, for other pipelines."""
        digest = words_digest(folder)
        if digest is None:
            return None
        return SharedWords(digest, self.nlp.vocab, self.nlp.tokenizer, self.kept_strings)

    def remove_pipes(self) -> None:
        """Remove all pipes. `tasks` stays, because a report may use it."""
        for name in self.nlp.component_names:
            self.nlp.remove_pipe(name)

    def _check_tasks(self) -> None:
        for task, name in self.tasks.items():
            if name not in self.nlp.pipe_names:
                raise PipelineUnsuitable(
                    f"the task {task!r} is mapped to a pipe {name!r}, but the pipeline has "
                    f"{', '.join(self.nlp.pipe_names) or 'no pipes'} (disabled pipes do not count)"
                )

    def _copy_shared_embeddings(self) -> None:
        """Give each pipe its own tok2vec: training through a shared one would change the other pipes."""
        for name, component in list(self.nlp.pipeline):
            listeners = getattr(component, "listening_components", ())
            for pipe in set(listeners) & set(self.tasks.values()):
                self.nlp.replace_listeners(name, pipe, ["model.tok2vec"])

    def prepare(self, labels: LabelSchema, docs: Sequence[Doc]) -> None:
        """Add all labels to the pipes of their tasks. Missing pipes are added and initialized from `docs`."""
        for task in TASKS:
            wanted = labels.get(task, ())
            if task in self.tasks and task not in self.trainable_tasks:
                logger.warning("the pipe %r is not trainable: %s stays unchanged", self.tasks[task], task)
            elif task in self.tasks:
                self._add_labels(self.pipe(task), wanted)
            elif len(wanted) >= (1 if task == "entities" else MIN_CATEGORIES):
                self._add_pipe(task, wanted, docs)

    @property
    def trainable_tasks(self) -> tuple[Task, ...]:
        return tuple(task for task in self.tasks if getattr(self.pipe(task), "is_trainable", False))

    def pipe(self, task: Task) -> Any:
        return self.nlp.get_pipe(self.tasks[task])

    def _add_labels(self, pipe: Any, wanted: Iterable[str]) -> None:
        for label in wanted:
            if label not in pipe.labels:
                pipe.add_label(label)
                make_new_labels_learnable(pipe.model)

    def _add_pipe(self, task: Task, labels: Sequence[str], docs: Sequence[Doc]) -> None:
        if not any(is_labelled(task, doc, labels) for doc in docs):
            return
        name = TEMPLATE_PIPES[task]
        config = self._template["components"].get(name)
        if config is None:
            logger.warning("the pipeline config has no pipe %r: %s is not trained", name, task)
            return
        config = dict(config)
        pipe: Any = self.nlp.add_pipe(config.pop("factory"), name=name, config=config)
        self._add_labels(pipe, labels)
        self.tasks[task] = name
        sample = self.examples(task, docs, shared=True)
        given = {"labels": labels} if learns_online(pipe) else {}  # shared examples have labels of all tasks
        pipe.initialize(lambda: sample, nlp=self.nlp, **given)

    def labelled(self, task: Task, docs: Iterable[Doc]) -> list[Doc]:
        """The documents with labels of the task."""
        labels = self.pipe(task).labels
        return [doc for doc in docs if is_labelled(task, doc, labels)]

    def examples(self, task: Task, docs: Iterable[Doc], *, shared: bool = False) -> list[Example]:
        """The training examples of the task, from the documents with its labels.

        With `shared`, examples of our models are the documents themselves, else a copy has the labels: for
        sample weights. These models read only the words of the predicted document, and the labels of their
        task. Examples of other models have two copies.
        """
        pipe = self.pipe(task)
        if learns_online(pipe):
            return [Example(doc, doc if shared else doc.copy()) for doc in self.labelled(task, docs)]
        negatives = not isinstance(pipe, KarenTextCategorizer)
        return [
            example_for(self.nlp, task, doc, pipe.labels, negatives=negatives)
            for doc in self.labelled(task, docs)
        ]

    def save(self, folder: Path) -> None:
        """Write the pipeline, with a string store without words of training texts."""
        folder.mkdir(parents=True, exist_ok=True)
        self.nlp.to_disk(folder)
        labels = {label for task in self.tasks for label in self.pipe(task).labels}
        strings = sorted((self.kept_strings | labels) & set(self.nlp.vocab.strings))
        srsly.write_json(folder / "vocab" / "strings.json", strings)


def learns_online(pipe: Any) -> bool:
    """Whether the model of the pipe is one of ours."""
    return any(True for _ in learning_shims(pipe.model))


def is_labelled(task: Task, doc: Doc, labels: Iterable[str]) -> bool:
    """Whether the document has labels of the task."""
    if task == "entities":
        return bool(doc.has_annotation("ENT_IOB"))
    return any(doc.cats.get(label) == 1.0 for label in doc.cats.keys() & set(labels))


def example_for(
    nlp: Language, task: Task, doc: Doc, labels: Sequence[str], *, negatives: bool = True
) -> Example:
    """An example with the annotation of one task, and with the sample weight of the document.

    Stock text categorizers need every other label as a negative. Ours does not, and 150 negatives would take
    as long as the training step.
    """
    codes = doc.to_array([ORTH, SPACY])
    strings = nlp.vocab.strings
    reference = Doc(
        nlp.vocab, words=[strings[word] for word in codes[:, 0].tolist()], spaces=codes[:, 1].tolist()
    )
    set_sample_weight(reference, sample_weight(doc))
    if task == "entities":
        missing = [reference[token.i : token.i + 1] for token in doc if token.ent_iob == MISSING_IOB]
        reference.set_ents(list(doc.ents), missing=missing, default="outside")
    elif negatives:
        reference.cats = {label: doc.cats.get(label, 0.0) for label in labels}
    else:
        reference.cats = {label: value for label, value in doc.cats.items() if label in labels}
    return Example(make_doc(nlp, doc.text), reference)
