"""`karen_ner`: training, missing annotation, new labels, saving, hostile texts."""

import random
from pathlib import Path

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from spacy.util import load_config
from thinc.api import Adam

from karen_learner.components.ner.architecture import SEGMENT_TOKENS, SparseChainShim, chain_of, sparse_chain
from karen_learner.components.ner.pipe import KarenEntityRecognizer
from karen_learner.components.online.shim import STATE_FILE, learning_shims, scale_learn_rate
from karen_learner.errors import ModelError
from karen_learner.settings import load_settings
from karen_learner.training.trainer import PipeTrainer, Plan

CONFIG = Path(__file__).parents[3] / "configs" / "entities.cfg"
CITIES, DISHES = ("New York", "Paris", "San Jose", "Oslo"), ("pizza", "green soup", "noodles")
MODEL = {"@architectures": "karen_learner.SparseChain.v1", "table_bits": 14}


def rows() -> list[tuple[str, list[tuple[int, int, str]]]]:
    found = []
    for city in CITIES:
        for dish in DISHES:
            text = f"order {dish} in {city} now"
            at, where = text.index(dish), text.index(city)
            found.append((text, [(at, at + len(dish), "DISH"), (where, where + len(city), "CITY")]))
    return [*found, ("good morning to you", [])]


def corpus(nlp: Language) -> list[Example]:
    return [Example.from_dict(nlp.make_doc(text), {"entities": entities}) for text, entities in rows()]


def train(nlp: Language, examples: list[Example] | None = None, passes: int = 6) -> Language:
    for _ in range(passes):
        nlp.update(corpus(nlp) if examples is None else examples)
    return nlp


def recognizer(nlp: Language) -> KarenEntityRecognizer:
    pipe = nlp.get_pipe("ner")
    assert isinstance(pipe, KarenEntityRecognizer)
    return pipe


def shim(nlp: Language) -> SparseChainShim:
    return chain_of(recognizer(nlp).model)


def weights(nlp: Language) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in shim(nlp).learning_weights().arrays().items()}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(array, other[name]) for name, array in one.items())


def entities(doc: Doc) -> list[tuple[str, str]]:
    return [(span.text, span.label_) for span in doc.ents]


@pytest.fixture
def nlp() -> Language:
    made = spacy.blank("en")
    made.add_pipe("karen_ner", name="ner", config={"model": MODEL})
    made.initialize(lambda: corpus(made))
    return made


@pytest.fixture
def trained(nlp: Language) -> Language:
    return train(nlp)


def test_it_learns_and_scores_as_ner_does(trained: Language) -> None:
    scores = trained.evaluate(corpus(trained))
    assert (scores["ents_p"], scores["ents_r"], scores["ents_f"]) == (1.0, 1.0, 1.0)
    assert set(scores["ents_per_type"]) == {"CITY", "DISH"}
    assert entities(trained("order noodles in San Jose now")) == [("noodles", "DISH"), ("San Jose", "CITY")]
    assert recognizer(trained).labels == ("CITY", "DISH")


def test_training_lowers_the_loss_of_get_loss(nlp: Language) -> None:
    before, _ = recognizer(nlp).get_loss(corpus(nlp), None)
    kept = weights(nlp)
    nlp.update(corpus(nlp), sgd=None)
    train(nlp)
    after, _ = recognizer(nlp).get_loss(corpus(nlp), None)
    assert 0.0 <= after < before / 4
    assert not same(kept, weights(nlp))


def test_update_without_an_optimizer_changes_no_weights(nlp: Language) -> None:
    pipe, before = recognizer(nlp), weights(nlp)
    pipe.update(corpus(nlp), sgd=None)
    assert same(before, weights(nlp))
    pipe.finish_update(Adam(0.0))
    assert not same(before, weights(nlp))


def test_pending_gradients_add_up_or_are_discarded(nlp: Language) -> None:
    before = weights(nlp)
    recognizer(nlp).update(corpus(nlp), sgd=None)
    shim(nlp).discard_gradients()
    recognizer(nlp).finish_update(Adam(0.1))
    assert same(before, weights(nlp))
    for half in (corpus(nlp)[:6], corpus(nlp)[6:]):
        recognizer(nlp).update(half, sgd=None)
    recognizer(nlp).finish_update(Adam(0.1))
    assert shim(nlp).learning_weights().steps == 1


def test_the_learn_rate_can_be_scaled(nlp: Language) -> None:
    scale_learn_rate(recognizer(nlp).model, 0.0)
    chain = shim(nlp).learning_weights().chain.copy()
    train(nlp, passes=1)
    assert (shim(nlp).learning_weights().chain == chain).all()
    assert [one.all_finite() for one in learning_shims(recognizer(nlp).model)] == [True]


def test_missing_annotation_is_not_trained_as_outside(nlp: Language) -> None:
    """The examples are annotated for dishes; the city has no annotation. Cities come from other examples."""
    train(nlp)
    partial = []
    for example in corpus(nlp)[:12]:
        doc = example.reference
        dish, city = doc.ents
        doc.set_ents([dish], missing=[city], default="outside")
        partial.append(example)
    train(nlp, partial, passes=20)
    assert entities(nlp("order pizza in Paris now")) == [("pizza", "DISH"), ("Paris", "CITY")]
    for example in partial:
        example.reference.set_ents([example.reference.ents[0]], default="outside")
    train(nlp, partial, passes=20)
    assert entities(nlp("order pizza in Paris now")) == [("pizza", "DISH")]


def test_texts_without_annotation_change_no_weights(trained: Language) -> None:
    before = weights(trained)
    unknown = Example.from_dict(trained.make_doc("order pizza in Paris"), {"cats": {"ORDER": 1.0}})
    assert trained.update([unknown])["ner"] == 0.0
    assert same(before, weights(trained))


def test_an_annotation_without_entities_is_learned(trained: Language) -> None:
    text = "order pizza in Paris now"
    train(trained, [Example.from_dict(trained.make_doc(text), {"entities": []})], passes=30)
    assert entities(trained(text)) == []


def test_a_new_label_is_learned_and_old_labels_stay(trained: Language) -> None:
    pipe = recognizer(trained)
    before = [entities(trained(text)) for text, _ in rows()]
    assert (pipe.add_label("DAY"), pipe.add_label("DAY")) == (1, 0)
    assert [entities(trained(text)) for text, _ in rows()] == before
    fresh = [
        Example.from_dict(trained.make_doc(f"come on {day} please"), {"entities": [(8, 8 + len(day), "DAY")]})
        for day in ("Monday", "Tuesday", "Friday")
    ]
    train(trained, [*corpus(trained), *fresh])
    assert entities(trained("come on Monday please")) == [("Monday", "DAY")]
    assert trained.evaluate(corpus(trained))["ents_f"] == 1.0


def test_an_unknown_label_is_not_added(trained: Language) -> None:
    example = Example.from_dict(trained.make_doc("sail on Titanic"), {"entities": [(8, 15, "SHIP")]})
    trained.update([example])
    assert recognizer(trained).labels == ("CITY", "DISH")
    with pytest.raises(ValueError, match="E187"):
        recognizer(trained).add_label(3)  # type: ignore[arg-type]


def test_entities_of_earlier_pipes_stay(trained: Language) -> None:
    ruler = trained.add_pipe("entity_ruler", before="ner")
    ruler.add_patterns([{"label": "PLACE", "pattern": "York now"}])
    assert entities(trained("order pizza in New York now")) == [("pizza", "DISH"), ("York now", "PLACE")]


@pytest.mark.parametrize("way", ["disk", "bytes"])
def test_training_continues_exactly_after_saving_and_loading(
    trained: Language, way: str, tmp_path: Path
) -> None:
    if way == "disk":
        trained.to_disk(tmp_path)
        loaded = spacy.load(tmp_path)
    else:
        loaded = spacy.blank("en")
        loaded.add_pipe("karen_ner", name="ner", config={"model": MODEL})
        loaded.from_bytes(trained.to_bytes())
    assert recognizer(loaded).labels == recognizer(trained).labels
    assert [entities(loaded(text)) for text, _ in rows()] == [entities(trained(text)) for text, _ in rows()]
    assert not shim(loaded).is_learning
    for one in (trained, loaded):
        train(one, passes=2)
    assert shim(loaded).is_learning
    assert same(weights(trained), weights(loaded))


def test_the_state_is_separate_and_can_be_excluded(trained: Language, tmp_path: Path) -> None:
    trained.to_disk(tmp_path / "all")
    trained.to_disk(tmp_path / "lean", exclude=["state"])
    recognizer(trained).to_disk(tmp_path / "pipe", exclude=["state"])
    assert (tmp_path / "all" / "ner" / STATE_FILE).is_file()
    assert not (tmp_path / "pipe" / STATE_FILE).exists()
    (tmp_path / "all" / "ner" / STATE_FILE).unlink()
    loaded = spacy.load(tmp_path / "all")
    assert loaded.evaluate(corpus(loaded))["ents_f"] == 1.0
    train(loaded, passes=1)
    assert loaded.evaluate(corpus(loaded))["ents_f"] == 1.0


def test_the_state_of_other_weights_is_refused(trained: Language, tmp_path: Path) -> None:
    trained.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    train(trained, passes=1)
    trained.to_disk(tmp_path)
    with pytest.raises(ModelError, match="belongs to other weights"):
        train(loaded, passes=1)


def test_a_model_can_restore_earlier_weights(trained: Language) -> None:
    kept, before = recognizer(trained).model.to_bytes(), weights(trained)
    train(trained, passes=1)
    recognizer(trained).model.from_bytes(kept)
    assert same(before, weights(trained))
    assert same(before, chain_of(recognizer(trained).model.copy()).learning_weights().arrays())


def test_no_word_of_the_texts_is_saved(trained: Language) -> None:
    data = recognizer(trained).to_bytes(exclude=["vocab"])
    assert b"CITY" in data
    assert not any(word in data for word in (b"noodles", b"Jose", b"morning"))


@pytest.mark.parametrize("data", [b"", b"S", b"Lnothing", b"X\x80", b"S\x81\xa1a\x01"])
def test_damaged_weights_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"weights"):
        chain_of(sparse_chain()).from_bytes(data)


@pytest.mark.parametrize(
    "options",
    [{"table_bits": 4}, {"learn_rate": 0.0}, {"dropout": 1.0}, {"max_rows": 1}, {"initial_square": 0}],
)
def test_invalid_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs"):
        sparse_chain(**options)  # type: ignore[arg-type]


def test_several_processes_find_the_same_entities(trained: Language) -> None:
    texts = [text for text, _ in rows()]
    one = [entities(doc) for doc in trained.pipe(texts)]
    assert [entities(doc) for doc in trained.pipe(texts, n_process=2, batch_size=4)] == one


def test_a_long_text_is_analyzed_to_its_end(trained: Language) -> None:
    text = "order pizza in Paris now . " * 400
    found = entities(trained(text))
    assert found.count(("Paris", "CITY")) > 390
    before = weights(trained)
    trained.update([Example.from_dict(trained.make_doc(text), {"entities": [(0, 5, "DISH")]})])
    assert not same(before, weights(trained))


def test_an_entity_across_two_segments_is_learned_in_two_parts(nlp: Language) -> None:
    doc = nlp.make_doc("a " * (SEGMENT_TOKENS - 1) + "New York " + "b " * 10)
    at = SEGMENT_TOKENS - 1
    doc.set_ents([Span(doc, at, at + 2, label="CITY")])
    example = Example(nlp.make_doc(doc.text), doc)
    loss, _ = recognizer(nlp).get_loss([example], None)
    assert loss == pytest.approx(
        len(doc) * np.log(4), rel=0.1
    )  # untrained: about four valid tags follow each
    train(nlp, [example], passes=30)
    assert recognizer(nlp).get_loss([example], None)[0] < loss / 20
    assert [span.text for span in nlp(doc.text).ents] == ["New", "York"]


def test_empty_texts_and_no_texts(trained: Language) -> None:
    assert entities(trained("")) == []
    empty = trained.make_doc("")
    trained.update([Example(empty, empty.copy())])
    trained.update([])
    assert list(trained.pipe([])) == []


_HOSTILE = spacy.blank("en")
_HOSTILE.add_pipe("karen_ner", name="ner", config={"model": MODEL})
_HOSTILE.initialize(lambda: corpus(_HOSTILE))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4), st.booleans())
def test_any_text_can_be_analyzed_and_learned(texts: list[str], empty: bool) -> None:
    docs = list(_HOSTILE.pipe(texts))
    assert [doc.text for doc in docs] == texts
    examples = [
        Example(_HOSTILE.make_doc(doc.text), doc)
        if empty
        else Example(
            doc, Doc(doc.vocab, words=[*doc.text], spaces=[False] * len(doc.text), ents=["O"] * len(doc.text))
        )
        for doc in docs
    ]
    _HOSTILE.update(examples)
    assert shim(_HOSTILE).all_finite()
    for doc in _HOSTILE.pipe(texts):
        assert all(isinstance(span, Span) and len(span) for span in doc.ents)


def test_spacy_train_learns(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    DocBin(docs=[example.reference for example in corpus(nlp)]).to_disk(tmp_path / "corpus.spacy")
    paths = {f"paths.{part}": str(tmp_path / "corpus.spacy") for part in ("train", "dev")}
    overrides = {**paths, "training.max_epochs": 8, "training.eval_frequency": 4}
    made = init_nlp(load_config(CONFIG, overrides=overrides))
    trained, _ = spacy_train(made)
    assert trained.evaluate(corpus(trained))["ents_f"] == 1.0


def test_our_loop_learns_the_examples(nlp: Language) -> None:
    training = load_settings().training.model_copy(update={"batch_size": 4})
    plan = Plan(passes=8, min_updates=0, rate=1.0)
    loop = PipeTrainer(nlp, "entities", "ner", settings=training, plan=plan, rng=random.Random(0))
    reports = list(loop.passes(corpus(nlp)))
    assert [(report.iteration, report.total) for report in reports] == [(n, 8) for n in range(1, 9)]
    assert reports[-1].loss < reports[0].loss
    assert nlp.evaluate(corpus(nlp))["ents_f"] == 1.0
    assert loop.skipped == []
