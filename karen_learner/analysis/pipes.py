"""Which pipe of a pipeline does which task, where nobody has told."""

from __future__ import annotations

from spacy.language import Language

from karen_learner.errors import PipelineUnsuitable
from karen_learner.records import Task

CATEGORIZERS = frozenset({"textcat", "textcat_multilabel", "karen_textcat", "karen_textcat_multilabel"})
RECOGNIZERS = ("ner", "karen_ner", "beam_ner", "entity_ruler")


def find_tasks(nlp: Language) -> dict[Task, str]:
    """The pipe of each task: by the names `intent` and `sentiment`, a lone text categorizer as intent,
    an entity recognizer as entities.

    Raises PipelineUnsuitable, naming the pipes there are, if no pipe is of use.
    """
    factories = {name: nlp.get_pipe_meta(name).factory for name in nlp.pipe_names}
    tasks = _categorizers(factories) | _recognizer(factories)
    if not tasks:
        there = ", ".join(f"{name} ({factory})" for name, factory in factories.items()) or "none"
        raise PipelineUnsuitable(
            "no pipe of the pipeline tells intent, sentiment or entities: it needs a text categorizer or an "
            f"entity recognizer, or `tasks` that name the pipes. It has these: {there}"
        )
    return tasks


def _categorizers(factories: dict[str, str]) -> dict[Task, str]:
    named: dict[Task, str] = {}
    if "intent" in factories:
        named["intent"] = "intent"
    if "sentiment" in factories:
        named["sentiment"] = "sentiment"
    others = [name for name, kind in factories.items() if kind in CATEGORIZERS and name not in named.values()]
    if "intent" not in named and len(others) == 1:
        named["intent"] = others[0]
    return named


def _recognizer(factories: dict[str, str]) -> dict[Task, str]:
    for wanted in RECOGNIZERS:
        for name, factory in factories.items():
            if factory == wanted:
                return {"entities": name}
    return {}
