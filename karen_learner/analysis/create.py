"""An analyzer from a pipeline that the user already has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spacy.language import Language
from spacy.util import is_package

from karen_learner.analysis.pipes import find_tasks
from karen_learner.analysis.spacy_analyzer import ModelLoader, SpacyAnalyzer
from karen_learner.analysis.word_tables import common_words
from karen_learner.errors import ModelError
from karen_learner.models.live import LiveModel, LiveModels, load_pipeline
from karen_learner.records import Task
from karen_learner.settings import Settings, load_settings


def create_spacy_analyzer(
    model: str | Path | Language | None = None,
    *,
    tasks: Mapping[Task, str] | None = None,
    language: str = "en",
    settings: Settings | None = None,
) -> SpacyAnalyzer:
    """An analyzer with a base model that answers for every tenant without a model of its own.

    `model` is a pipeline, its folder, or the name of an installed package; a folder or package is
    loaded in a thread at the first text (or by `await analyzer.load()`). `tasks` maps `intent`,
    `sentiment` and `entities` to the pipes that tell them; without it they are found out. Without a
    model, rules and the linguistic features of `language` answer until a model is deployed.

    Raises ModelError if there is no such folder or package, PipelineUnsuitable if a pipe is missing or
    none is of use (for a folder or package, when it is loaded).
    """
    settings = load_settings() if settings is None else settings
    base = _base(model, tasks=tasks, language=language)
    return SpacyAnalyzer(settings=settings, models=LiveModels(settings.analysis.live_models), base=base)


def _base(
    model: str | Path | Language | None, *, tasks: Mapping[Task, str] | None, language: str
) -> LiveModel | ModelLoader:
    if model is None:
        return lambda: _warm(LiveModel.blank(language))
    if isinstance(model, Language):
        return _live(model, tasks)
    if not (Path(model).exists() or is_package(str(model))):
        raise ModelError(f"there is no folder and no installed package {str(model)!r} with a spaCy pipeline")
    return lambda: _warm(_live(load_pipeline(model), tasks))


def _live(nlp: Language, tasks: Mapping[Task, str] | None) -> LiveModel:
    chosen = find_tasks(nlp) if tasks is None else tasks
    return LiveModel(nlp, tasks=chosen, version=f"{nlp.lang}_{nlp.meta['name']}-{nlp.meta['version']}")


def _warm(model: LiveModel) -> LiveModel:
    model.warm_up(common_words(model.language))
    return model
