"""An analyzer from an existing pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from spacy.language import Language
from spacy.util import is_package

from karen_learner.analysis.spacy_analyzer import ModelLoader, SpacyAnalyzer, live_models
from karen_learner.errors import ModelError, PipelineUnsuitable
from karen_learner.models.live import LiveModel, load_pipeline
from karen_learner.models.user_code import import_code
from karen_learner.records import CATEGORY_TASKS, Task
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
    `entities` to pipes; the default is `find_tasks`. Without a model, rules and the linguistic features of
    `language` answer until a model is deployed.

    Raises ModelError if the folder or package does not exist. Raises PipelineUnsuitable if a pipe is missing
    or none is usable: at the call for a pipeline, otherwise when it is loaded.
    """
    settings = load_settings() if settings is None else settings
    base = _base(model, tasks=tasks, language=language, imports=settings.training.imports)
    return SpacyAnalyzer(settings=settings, models=live_models(settings.analysis), base=base)


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
    return LiveModel(nlp, tasks=chosen, version=f"{nlp.lang}_{nlp.meta['name']}-{nlp.meta['version']}")


def find_tasks(nlp: Language) -> dict[Task, str]:
    """The pipe of each task: pipes named `intent` and `sentiment`, else a single text categorizer for
    intents; an entity recognizer for entities.

    Raises PipelineUnsuitable, with the names of the pipes, if no pipe is usable.
    """
    factories = {name: nlp.get_pipe_meta(name).factory for name in nlp.pipe_names}
    tasks: dict[Task, str] = {task: task for task in CATEGORY_TASKS if task in factories}
    others = [name for name, factory in factories.items() if factory in CATEGORIZERS and name not in tasks]
    if "intent" not in tasks and len(others) == 1:
        tasks["intent"] = others[0]
    recognizers = [name for wanted in RECOGNIZERS for name in factories if factories[name] == wanted]
    if recognizers:
        tasks["entities"] = recognizers[0]
    if not tasks:
        pipes = ", ".join(f"{name} ({factory})" for name, factory in factories.items()) or "none"
        raise PipelineUnsuitable(
            "the pipeline has no pipe for intent, sentiment or entities: it needs a text categorizer or an "
            f"entity recognizer, or `tasks` that name the pipes. Its pipes: {pipes}"
        )
    return tasks
