"""An analyzer from an existing pipeline."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from spacy.language import Language
from spacy.util import is_package

from karen_learner.analysis.spacy_analyzer import ModelLoader, SpacyAnalyzer, live_models
from karen_learner.errors import InvalidInput, LabelCollision, ModelError, PipelineUnsuitable
from karen_learner.models.live import LiveModel
from karen_learner.models.loading import load_pipeline
from karen_learner.models.user_code import import_code
from karen_learner.records import CATEGORY_TASKS, TASKS, Task
from karen_learner.settings import Settings, load_settings

CATEGORIZERS = frozenset({"textcat", "textcat_multilabel", "karen_textcat", "karen_textcat_multilabel"})
RECOGNIZERS = ("ner", "karen_ner", "beam_ner", "entity_ruler")


def create_spacy_analyzer(
    model: str | Path | Language | None = None,
    *,
    tasks: Mapping[Task, str] | None = None,
    language: str = "en",
    settings: Settings | None = None,
) -> SpacyAnalyzer:
    """An analyzer with a base model for tenants without a live model.

    `model` is a pipeline, its folder, or the name of an installed package. A folder or package is loaded in
    a thread at the first text (or by `await analyzer.load()`). `tasks` maps `intent`, `sentiment` and
    `entities` to pipes; the default is `find_tasks`. Without a model, the setting `analysis.fallback` answers
    until a model is deployed, with the linguistic features of `language`.

    Raises InvalidInput for unusable `tasks`, ModelError if the folder or package does not exist. Raises
    PipelineUnsuitable if a pipe is missing or of another kind, or none is usable: at the call for a pipeline,
    otherwise when it is loaded.
    """
    settings = load_settings() if settings is None else settings
    if tasks is not None:
        check_tasks(tasks)
        if model is None:
            raise InvalidInput("`tasks` maps tasks to pipes of a pipeline: give the pipeline, too")
    base = _base(model, tasks=tasks, language=language, imports=settings.training.imports)
    return SpacyAnalyzer(
        settings=settings, models=live_models(settings.analysis), base=base, has_pipes=model is not None
    )


def _base(
    model: str | Path | Language | None,
    *,
    tasks: Mapping[Task, str] | None,
    language: str,
    imports: Sequence[str],
) -> LiveModel | ModelLoader:
    if isinstance(model, Language):
        return _live(model, tasks)
    if model is not None and not (Path(model).exists() or is_package(str(model))):
        raise ModelError(f"there is no folder and no installed package {str(model)!r} with a spaCy pipeline")

    def load() -> LiveModel:
        if model is not None:
            import_code(imports)
        live = LiveModel.blank(language) if model is None else _live(load_pipeline(model), tasks)
        live.warm_up()
        return live

    return load


def _live(nlp: Language, tasks: Mapping[Task, str] | None) -> LiveModel:
    chosen = find_tasks(nlp) if tasks is None else tasks
    require_suitable_pipes(nlp, chosen)
    return LiveModel(nlp, tasks=chosen, version=f"{nlp.lang}_{nlp.meta['name']}-{nlp.meta['version']}")


def check_tasks(tasks: Mapping[Task, str]) -> None:
    """Raise InvalidInput for an unknown task, or a pipe with two tasks."""
    for task, pipe in tasks.items():
        if task not in TASKS:
            near = difflib.get_close_matches(str(task), TASKS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidInput(f"`tasks` has {task!r}, but the tasks are {', '.join(TASKS)}{hint}")
        if not isinstance(pipe, str):
            raise InvalidInput(f"`tasks` maps {task!r} to {pipe!r}, which is no name of a pipe")
    twice = [pipe for pipe, count in Counter(tasks.values()).items() if count > 1]
    if twice:
        raise InvalidInput(f"`tasks` names the pipe {twice[0]!r} for two tasks: each task needs its own pipe")


def require_suitable_pipes(nlp: Language, tasks: Mapping[Task, str]) -> None:
    """Raise PipelineUnsuitable, with the suitable pipes, for a pipe that is missing or of another kind.

    Raise LabelCollision for a label that is both an intent and a sentiment.
    """
    for task, pipe in tasks.items():
        if pipe not in nlp.pipe_names or not _suits(nlp, task, pipe):
            problem = "is not suitable" if pipe in nlp.pipe_names else "does not exist"
            suitable = [name for name in nlp.pipe_names if _suits(nlp, task, name)]
            raise PipelineUnsuitable(
                f"the task {task!r} is mapped to the pipe {pipe!r}, which {problem}. Suitable pipes: "
                f"{', '.join(suitable) or 'none'}. All pipes: {_described(nlp)}"
            )
    labels = [
        set(getattr(nlp.get_pipe(tasks[task]), "labels", ())) for task in CATEGORY_TASKS if task in tasks
    ]
    if len(labels) == 2 and (common := labels[0] & labels[1]):
        raise LabelCollision.between(common)


def _suits(nlp: Language, task: Task, pipe: str) -> bool:
    """Whether a pipe assigns the annotation of the task. A component may not declare what it assigns."""
    meta = nlp.get_pipe_meta(pipe)
    if task == "entities":
        return meta.factory in RECOGNIZERS or not meta.assigns or "doc.ents" in meta.assigns
    declares = meta.factory in CATEGORIZERS or "doc.cats" in meta.assigns
    return declares or (not meta.assigns and hasattr(nlp.get_pipe(pipe), "labels"))


def _described(nlp: Language) -> str:
    pipes = (f"{name} ({nlp.get_pipe_meta(name).factory})" for name in nlp.pipe_names)
    return ", ".join(pipes) or "none"


def find_tasks(nlp: Language) -> dict[Task, str]:
    """The pipe of each task: pipes named `intent` and `sentiment`, else a single text categorizer for
    intents; an entity recognizer for entities.

    Raises PipelineUnsuitable, with the names of the pipes, if no pipe is usable.
    """
    factories = {name: nlp.get_pipe_meta(name).factory for name in nlp.pipe_names}
    tasks: dict[Task, str] = {
        task: task for task in CATEGORY_TASKS if task in factories and _suits(nlp, task, task)
    }
    others = [name for name, factory in factories.items() if factory in CATEGORIZERS and name not in tasks]
    if "intent" not in tasks and len(others) == 1:
        tasks["intent"] = others[0]
    recognizers = [name for wanted in RECOGNIZERS for name in factories if factories[name] == wanted]
    if recognizers:
        tasks["entities"] = recognizers[0]
    if not tasks:
        raise PipelineUnsuitable(
            "the pipeline has no pipe for intent, sentiment or entities: it needs a text categorizer or an "
            f"entity recognizer, or `tasks` that name the pipes. Its pipes: {_described(nlp)}"
        )
    return tasks
