"""Replay of each pipe: the drawn examples and their importance weights."""

import math
import random
from collections import Counter

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Config

from karen_learner.components.online.sample_weights import sample_weight, set_sample_weight
from karen_learner.records import Task
from karen_learner.records.training import PipelineSpec
from karen_learner.settings import shipped_configs
from karen_learner.training.pipelines import TrainablePipeline
from karen_learner.training.replay import (
    MAX_REPLAY_RATIO,
    inclusion_probabilities,
    sample_replay,
    systematic_sample,
    training_examples,
)
from tests.components.text_corpora import LABELLED, sparse_pipeline, train

SIZES = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=40)
PROBABILITIES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40)
DRIFT = 1e-6


@given(SIZES, st.floats(0.0, 50.0))
def test_probabilities_are_in_bounds_and_add_up_to_the_budget(sizes: list[float], budget: float) -> None:
    probabilities = inclusion_probabilities(np.array(sizes), budget)
    assert probabilities.shape == (len(sizes),)
    assert (probabilities >= 0.0).all()
    assert (probabilities <= 1.0).all()
    assert probabilities.sum() == pytest.approx(min(budget, len(sizes)), abs=DRIFT)


@given(SIZES, st.floats(0.1, 50.0))
def test_below_one_probabilities_are_proportional_to_the_sizes(sizes: list[float], budget: float) -> None:
    probabilities = inclusion_probabilities(np.array(sizes), budget)
    rates = probabilities / np.array(sizes)
    free = probabilities < 1.0 - DRIFT
    if free.any():
        assert rates[free] == pytest.approx(rates[free][0], rel=1e-6)
        assert (rates[~free] <= rates[free][0] * (1.0 + DRIFT)).all()


@pytest.mark.parametrize(
    ("budget", "probability"), [(-1.0, 0.0), (0.0, 0.0), (3.5, 0.5), (7.0, 1.0), (9.0, 1.0)]
)
def test_equal_sizes_have_equal_probabilities(budget: float, probability: float) -> None:
    assert inclusion_probabilities(np.full(7, 0.1), budget) == pytest.approx(np.full(7, probability))


def test_without_sizes_there_are_no_probabilities() -> None:
    assert inclusion_probabilities(np.zeros(0), 3.0).shape == (0,)
    assert systematic_sample(np.zeros(0), random.Random(0)) == []


@given(PROBABILITIES, st.integers(0, 2**32))
def test_the_sample_size_is_the_sum_of_probabilities(probabilities: list[float], seed: int) -> None:
    drawn = systematic_sample(np.array(probabilities), random.Random(seed))
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= {at for at, probability in enumerate(probabilities) if probability > 0.0}
    assert math.floor(sum(probabilities) - DRIFT) <= len(drawn) <= math.ceil(sum(probabilities) + DRIFT)


def test_each_position_is_drawn_with_its_probability() -> None:
    probabilities, draws = np.array([0.05, 0.3, 0.5, 0.75, 1.0]), 4000
    drawn = Counter(
        at for seed in range(draws) for at in systematic_sample(probabilities, random.Random(seed))
    )
    assert [drawn[at] / draws for at in range(5)] == pytest.approx(probabilities.tolist(), abs=0.025)
    assert drawn[4] == draws


def pool_of(nlp: Language, copies: int = 1) -> list[Doc]:
    """Gold documents with labels of different frequency."""
    docs = []
    for label, text in ((label, text) for text, label in LABELLED):
        for _ in range(copies * (4 if label == "greet" else 1)):
            docs.append(nlp.make_doc(text))
            docs[-1].cats = {label: 1.0}
    return docs


def label_of(doc: Doc) -> str:
    return next(iter(doc.cats))


@pytest.fixture
def trained() -> Language:
    return train(sparse_pipeline())


@pytest.mark.parametrize("budget", [24, 25, 100])
def test_a_sufficient_budget_keeps_the_weights_of_the_pool(trained: Language, budget: int) -> None:
    pool = pool_of(trained)
    set_sample_weight(pool[3], 2.5)
    replayed = sample_replay(trained.get_pipe("intent"), pool, budget=budget, rng=random.Random(0))
    assert [doc for doc, _ in replayed] == pool
    assert [weight for _, weight in replayed] == [2.5 if at == 3 else 1.0 for at in range(24)]


@pytest.mark.parametrize("budget", [0, 1, 7, 23])
def test_the_draw_respects_the_budget_without_repetition(trained: Language, budget: int) -> None:
    replayed = sample_replay(
        trained.get_pipe("intent"), pool_of(trained), budget=budget, rng=random.Random(1)
    )
    assert len(replayed) == budget
    assert len({id(doc) for doc, _ in replayed}) == budget


def test_an_empty_pool_gives_an_empty_draw(trained: Language) -> None:
    assert sample_replay(trained.get_pipe("intent"), [], budget=5, rng=random.Random(0)) == []


def test_the_draw_depends_on_the_seed_alone(trained: Language) -> None:
    pool, pipe = pool_of(trained, copies=5), trained.get_pipe("intent")
    one, same, other = [sample_replay(pipe, pool, budget=20, rng=random.Random(seed)) for seed in (1, 1, 2)]
    assert one == same != other


@pytest.mark.parametrize("passes", [0, 1, 8])
def test_the_weights_of_a_draw_estimate_the_whole_pool(passes: int) -> None:
    """The weights of each label add up to those of the pool, on average over draws."""
    nlp = train(sparse_pipeline(), passes)
    pool, draws = pool_of(nlp, copies=2), 600
    for doc in pool[::3]:
        set_sample_weight(doc, 4.0)
    whole, found = Counter[str](), Counter[str]()
    for doc in pool:
        whole[label_of(doc)] += sample_weight(doc)
    for seed in range(draws):
        for doc, weight in sample_replay(nlp.get_pipe("intent"), pool, budget=15, rng=random.Random(seed)):
            found[label_of(doc)] += weight / draws
    assert found == pytest.approx(whole, rel=0.05)


def test_errors_of_the_pipe_are_drawn_more_often_with_lower_weights(trained: Language) -> None:
    pool = pool_of(trained, copies=5)
    wrong = [doc for doc in pool if label_of(doc) == "greet"][::8]
    for doc in wrong:
        doc.cats = {"leave": 1.0}
    drawn, ids = Counter[bool](), {id(doc) for doc in wrong}
    weights: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(50):
        for doc, weight in sample_replay(
            trained.get_pipe("intent"), pool, budget=30, rng=random.Random(seed)
        ):
            drawn[id(doc) in ids] += 1
            weights[id(doc) in ids].append(weight)
    assert drawn[True] / len(wrong) > 2 * drawn[False] / (len(pool) - len(wrong))
    assert np.mean(weights[True]) < np.mean(weights[False]) / 2


@pytest.mark.parametrize(
    ("new", "importance_weight", "together"),
    [
        (5, 3.0, 3.0 * 8),  # below the cap: unchanged
        (5, 1000.0, MAX_REPLAY_RATIO * 5),
        (0, 1000.0, 8.0),  # the cap is at least the number of replayed examples
    ],
)
def test_replay_weights_are_capped_relative_to_new_examples(
    trained: Language, new: int, importance_weight: float, together: float
) -> None:
    pipeline = TrainablePipeline(trained, {"intent": "intent"}, Config())
    pool = pool_of(trained)
    replayed = [(doc, importance_weight * share) for doc, share in zip(pool[:8], [0.5, 1.5] * 4, strict=True)]
    examples = training_examples(pipeline, "intent", pool[8 : 8 + new], replayed)

    weights = [sample_weight(example.reference) for example in examples]
    assert weights[:new] == [1.0] * new
    assert sum(weights[new:]) == pytest.approx(together)
    assert weights[new + 1] == pytest.approx(3 * weights[new])


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_losses_that_are_no_numbers_do_not_break_the_draw(
    trained: Language, broken: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, pool = trained.get_pipe("intent"), pool_of(trained)
    losses = np.full(len(pool), broken, dtype=np.float32)
    monkeypatch.setattr(pipe, "document_losses", lambda docs: losses[: len(docs)])
    replayed = sample_replay(pipe, pool, budget=10, rng=random.Random(0))
    assert len(replayed) == 10
    assert all(math.isfinite(weight) and weight > 0 for _, weight in replayed)


def test_empty_and_equal_texts_are_drawn_like_other_texts(trained: Language) -> None:
    pool = [trained.make_doc(text) for text in ("", "", "hello", "hello", "hello", "hello")]
    for doc in pool:
        doc.cats = {"greet": 1.0}
    found = Counter[int]()
    for seed in range(300):
        replayed = sample_replay(trained.get_pipe("intent"), pool, budget=3, rng=random.Random(seed))
        found.update(next(at for at, one in enumerate(pool) if one is doc) for doc, _ in replayed)
    assert len(found) == 6


STOCK = {"textcat": "spacy.TextCatBOW.v3", "karen_textcat": "spacy.TextCatBOW.v3"}


@pytest.mark.parametrize("factory", STOCK)
def test_a_pipe_without_losses_draws_equally_over_labels(factory: str) -> None:
    nlp = spacy.blank("en")
    model = {"@architectures": STOCK[factory], "exclusive_classes": True, "ngram_size": 1, "length": 256}
    pipe = nlp.add_pipe(factory, config={"model": {**model, "no_output_layer": False}})
    for label in ("greet", "order", "leave"):
        pipe.add_label(label)
    drawn = Counter[str]()
    for seed in range(200):
        for doc, weight in sample_replay(pipe, pool_of(nlp), budget=9, rng=random.Random(seed)):
            drawn[label_of(doc)] += 1
            assert weight == pytest.approx(16 / 3 if label_of(doc) == "greet" else 4 / 3)
    assert drawn == pytest.approx(dict.fromkeys(("greet", "order", "leave"), 600), rel=0.1)


def test_an_entity_recognizer_draws_equally_over_sets_of_labels() -> None:
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("karen_ner", config={"model": {"@architectures": "karen_learner.SparseChain.v1"}})
    pipe.add_label("CITY")
    pool = [nlp.make_doc("fly to paris now") for _ in range(4)] + [nlp.make_doc("hello") for _ in range(36)]
    for at, doc in enumerate(pool):
        doc.set_ents([doc.char_span(7, 12, "CITY")] if at < 4 else [], default="outside")
    replayed = sample_replay(pipe, pool, budget=8, rng=random.Random(0))
    assert sum(bool(doc.ents) for doc, _ in replayed) == 4
    assert sum(weight for _, weight in replayed) == pytest.approx(40)


@pytest.fixture
def pipeline() -> TrainablePipeline:
    made = TrainablePipeline.open(PipelineSpec(template=shipped_configs() / "pipeline.cfg"))
    made.prepare({"intent": ("greet", "order", "leave")}, pool_of(made.nlp))
    return made


def weights_in(examples: list[Example]) -> list[float]:
    return [sample_weight(example.reference) for example in examples]


def test_training_examples_carry_their_weights(pipeline: TrainablePipeline) -> None:
    task: Task = "intent"
    docs = pool_of(pipeline.nlp)
    set_sample_weight(docs[0], 3.0)
    examples = training_examples(pipeline, task, docs[:2], [(docs[0], 7.0), (docs[5], 0.5)])
    assert weights_in(examples) == [3.0, 1.0, 7.0, 0.5]
    assert sample_weight(docs[0]) == 3.0  # another pipe may use another weight


def test_only_documents_with_labels_of_the_task_are_drawn(pipeline: TrainablePipeline) -> None:
    docs = pool_of(pipeline.nlp)
    docs[0].cats = {"positive": 1.0}
    assert pipeline.labelled("intent", docs) == docs[1:]
