"""Our pipes in the places of spaCy's: configs, initialization, copies, freezing, rehearsal."""

import pickle
from typing import Any

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.training import Example
from spacy.util import load_model_from_config
from thinc.api import Adam

from karen_learner.components.textcat.architecture import shim_of

FACTORIES = ("karen_textcat", "karen_textcat_multilabel", "karen_ner")
TEXTS = ("fly me to rome", "show my balance", "fly to oslo today", "what is my balance")
BOW = {"@architectures": "spacy.TextCatBOW.v3", "exclusive_classes": True, "ngram_size": 1, "length": 1024}


def example(nlp: Language, text: str) -> Example:
    travel = text.startswith("fly")
    entities = [(text.index("to ") + 3, text.index("to ") + 7, "CITY")] if travel else []
    cats = {"travel": float(travel), "balance": float(not travel)}
    return Example.from_dict(nlp.make_doc(text), {"cats": cats, "entities": entities})


def examples(nlp: Language) -> list[Example]:
    return [example(nlp, text) for text in TEXTS]


def with_labels(factory: str, **config: Any) -> Language:
    """A pipeline with the pipe `it` and its labels, neither initialized nor trained."""
    nlp = spacy.blank("en")
    pipe: Any = nlp.add_pipe(factory, name="it", config=config)
    for label in ("CITY", "DISH") if factory == "karen_ner" else ("travel", "balance"):
        pipe.add_label(label)
    return nlp


def train(nlp: Language, passes: int = 12) -> Language:
    for _ in range(passes):
        nlp.update(examples(nlp))
    return nlp


@pytest.fixture(params=FACTORIES)
def trained(request: pytest.FixtureRequest) -> Language:
    nlp = with_labels(request.param)
    nlp.initialize()
    return train(nlp)


def answers(nlp: Language) -> list[Any]:
    return [(doc.cats, [(span.text, span.label_) for span in doc.ents]) for doc in nlp.pipe(TEXTS)]


def weights(nlp: Language) -> bytes:
    pipe: Any = nlp.get_pipe("it")
    return bytes(pipe.model.to_bytes())


def test_labels_and_initialize_without_examples_are_enough(trained: Language) -> None:
    doc = trained("fly to oslo")
    if doc.cats:
        assert doc.cats["travel"] > doc.cats["balance"]
    else:
        assert [(span.text, span.label_) for span in doc.ents] == [("oslo", "CITY")]


def test_a_filled_config_of_spacy_works_with_our_factories() -> None:
    stock = spacy.blank("en")
    for factory in FACTORIES:
        stock.add_pipe(factory.removeprefix("karen_"), name=factory)
    config = stock.config.copy()
    for name, section in config["components"].items():
        section["factory"] = name
        del section["model"]
    ours = load_model_from_config(config, auto_fill=True)
    assert ours.pipe_names == list(FACTORIES)
    assert ours.config["training"]["score_weights"] == stock.config["training"]["score_weights"]


def test_the_model_of_an_entity_recognizer_must_be_ours() -> None:
    stock = spacy.blank("en")
    stock.add_pipe("ner")
    config = stock.config.copy()
    config["components"]["ner"]["factory"] = "karen_ner"
    with pytest.raises(ValueError, match=r"use karen_learner.SparseChain.v1"):
        load_model_from_config(config, auto_fill=True)


def test_copies_give_the_same_answers(trained: Language) -> None:
    sourced = spacy.blank("en")
    sourced.add_pipe("it", source=trained)
    pickled: Language = pickle.loads(pickle.dumps(trained))
    assert answers(sourced) == answers(pickled) == answers(trained)
    again: Language = pickle.loads(pickle.dumps(pickled))  # after it has answered
    assert answers(again) == answers(trained)


def test_a_pipe_with_other_labels_can_be_loaded_over(trained: Language) -> None:
    factory = trained.get_pipe_meta("it").factory
    other = with_labels(factory)
    other.get_pipe("it").add_label("another")
    other.initialize()
    other.from_bytes(trained.to_bytes())
    assert other.get_pipe("it").labels == trained.get_pipe("it").labels
    assert [cats for cats, _ in answers(other)] == [
        pytest.approx(cats, abs=1e-3) for cats, _ in answers(trained)
    ]


def test_disabled_and_excluded_pipes_stay_as_they_are(trained: Language) -> None:
    trained.add_pipe("karen_ner", name="other").add_label("CITY")
    before = weights(trained)
    with trained.select_pipes(enable="other"):
        trained.update(examples(trained))
    trained.update(examples(trained), exclude=["it"])
    assert weights(trained) == before
    trained.update(examples(trained), annotates=["it"])
    assert weights(trained) != before


def test_examples_without_annotation_of_the_pipe_change_nothing(trained: Language) -> None:
    before = weights(trained)
    unknown = Example.from_dict(trained.make_doc("fly me to rome"), {"cats": {"other": 1.0}})
    assert trained.update([unknown]) == {"it": 0.0}
    assert weights(trained) == before


def test_rehearsal_holds_the_answers_of_the_last_resume_training(trained: Language) -> None:
    kept, before = answers(trained), weights(trained)
    assert trained.rehearse(examples(trained)) == {"it": 0.0}
    assert weights(trained) == before
    trained.resume_training()
    opposite = [
        Example.from_dict(
            trained.make_doc(text),
            {
                "cats": {"travel": float("fly" not in text), "balance": float("fly" in text)},
                "entities": [],
            },
        )
        for text in TEXTS
    ]
    for _ in range(20):
        trained.update(opposite)
    assert answers(trained) != kept
    for _ in range(60):
        losses = trained.rehearse(examples(trained))
    assert losses["it"] < 0.05
    for (cats, entities), (kept_cats, kept_entities) in zip(answers(trained), kept, strict=True):
        assert entities == kept_entities
        assert cats == pytest.approx(kept_cats, abs=0.1)


def test_rehearsal_leaves_newer_labels_and_empty_texts(trained: Language) -> None:
    trained.resume_training()
    trained.get_pipe("it").add_label("newer")
    empty = Example.from_dict(trained.make_doc(""), {})
    assert trained.rehearse([empty]) == {"it": 0.0}
    losses = trained.rehearse([*examples(trained), empty])
    assert np.isfinite(losses["it"])


@pytest.mark.parametrize("factory", FACTORIES[:2])
def test_a_scorer_of_the_config_is_used(factory: str) -> None:
    nlp = with_labels(factory, scorer={"@scorers": "spacy.textcat_multilabel_scorer.v2"}, threshold=0.0)
    nlp.initialize()
    scores = train(nlp).evaluate(examples(nlp))
    assert scores["cats_score"] == scores["it_score"]
    assert scores["cats_macro_auc"] == 1.0
    silent = with_labels(factory, scorer=None)
    silent.initialize()
    assert not [name for name in silent.evaluate(examples(silent)) if name.startswith(("cats", "it"))]


def test_the_score_of_a_positive_label_is_its_f1() -> None:
    nlp = with_labels("karen_textcat")
    pipe: Any = nlp.get_pipe("it")
    pipe.initialize(lambda: examples(nlp), nlp=nlp, positive_label="travel")
    scores = train(nlp).evaluate(examples(nlp))
    assert scores["cats_score_desc"] == "F (travel)"
    with pytest.raises(ValueError, match="E920"):
        pipe.initialize(lambda: examples(nlp), nlp=nlp, positive_label="other")
    pipe.add_label("third")
    with pytest.raises(ValueError, match="E919"):
        pipe.initialize(lambda: examples(nlp), nlp=nlp, positive_label="travel")


def test_a_new_label_of_a_stock_architecture_changes_no_score_before_it_is_trained() -> None:
    nlp = with_labels("karen_textcat", model={**BOW, "no_output_layer": False})
    nlp.initialize()
    before = train(nlp)("fly me to rome").cats
    nlp.get_pipe("it").add_label("weather")
    assert nlp("fly me to rome").cats == {**before, "weather": 0.0}
    rain = Example.from_dict(nlp.make_doc("will it rain"), {"cats": {"weather": 1.0}})
    optimizer = Adam(0.05)
    for _ in range(40):
        nlp.update([*examples(nlp), rain], sgd=optimizer)
    assert nlp("will it rain").cats["weather"] > 0.5


def test_scores_of_a_stock_architecture_are_its_own() -> None:
    nlp = with_labels("karen_textcat", model={**BOW, "no_output_layer": True})
    nlp.initialize()
    pipe: Any = train(nlp).get_pipe("it")
    docs = [nlp.make_doc(text) for text in TEXTS]
    np.testing.assert_array_equal(pipe.predict(docs), pipe.model.predict(docs))


def test_the_number_of_labels_is_a_dimension_of_the_model() -> None:
    nlp = with_labels("karen_textcat")
    nlp.initialize()
    model = nlp.get_pipe("it").model
    assert model.get_dim("nO") == 2
    nlp.get_pipe("it").add_label("third")
    assert model.get_dim("nO") == 3
    shim = shim_of(model)
    assert shim is not None
    assert shim.labels == 3
