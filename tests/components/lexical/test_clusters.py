"""Brown clusters: loading, saving with the weights, languages without clusters."""

import pickle
from typing import Any

import numpy as np
import pytest
import spacy
from spacy.strings import get_string_id
from spacy.training import Example

from karen_learner.components.lexical.clusters import WordClusters, word_clusters
from karen_learner.components.ner.features import TokenFeaturizer, cut_into_segments
from tests.components.text_corpora import SPARSE


def paths(clusters: WordClusters, *words: str) -> list[int]:
    return clusters.values_of(np.array([get_string_id(word) for word in words], dtype=np.uint64)).tolist()


def test_similar_words_share_a_path() -> None:
    seven, eight, london, nonsense = paths(word_clusters("en"), "seven", "eight", "london", "qwrtzx")
    assert seven == eight != 0
    assert london != 0
    assert nonsense == 0


def test_other_languages_have_none() -> None:
    assert len(word_clusters("xx")) == 0
    assert paths(word_clusters("xx"), "seven") == [0]


def test_clusters_are_restored_from_arrays() -> None:
    clusters = word_clusters("en")
    arrays = clusters.arrays()
    again = WordClusters.from_arrays(arrays)
    assert (again.words == clusters.words).all()
    assert (again.values == clusters.values).all()


def damaged(**changes: Any) -> dict[str, Any]:
    words = np.array([1, 2, 3], dtype=np.uint64).view(np.uint32)
    arrays = {"cluster_words": words, "cluster_numbers": np.array([5, 6, 7], dtype=np.uint32), **changes}
    return {name: array for name, array in arrays.items() if array is not None}


def test_valid_arrays_are_accepted() -> None:
    assert len(WordClusters.from_arrays(damaged())) == 3
    assert len(WordClusters.from_arrays({"bias": np.zeros(2)})) == 0


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        (damaged(cluster_words=None), "lack cluster_words"),
        (damaged(cluster_numbers=None), "lack cluster_numbers"),
        (damaged(cluster_numbers=np.array([5, 6], dtype=np.uint32)), "shape"),
        (damaged(cluster_numbers=np.array([[5, 6, 7]], dtype=np.uint32)), "shape"),
        (damaged(cluster_words=np.array([1, 0, 2], dtype=np.uint32)), "shape"),
        (damaged(cluster_numbers=np.array([5, 6, 7], dtype=np.float32)), "float32"),
        (damaged(cluster_words=np.array([3, 2, 1], dtype=np.uint64).view(np.uint32)), "ascend"),
    ],
)
def test_damage_is_refused(arrays: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        WordClusters.from_arrays(arrays)


def test_models_share_equal_tables() -> None:
    arrays = word_clusters("en").arrays()
    one = WordClusters.from_arrays(arrays)
    assert WordClusters.from_arrays({name: array.copy() for name, array in arrays.items()}) is one
    assert word_clusters("en") is one
    assert pickle.loads(pickle.dumps(one)) is one
    fewer = {"cluster_words": arrays["cluster_words"][:4], "cluster_numbers": arrays["cluster_numbers"][:2]}
    assert WordClusters.from_arrays(fewer) is not one


def test_cluster_features_exist_only_with_clusters() -> None:
    nlp = spacy.blank("en")
    docs = [nlp.make_doc("seven qwrtzx")]
    segments = cut_into_segments([2], max_tokens=8)
    without = TokenFeaturizer()(docs, segments).tokens
    clustered = TokenFeaturizer(20, word_clusters("en"))(docs, segments).tokens
    added = clustered[:, without.shape[1] :]
    assert (clustered[:, : without.shape[1]] == without).all()
    assert (added[0] != 1 << 20).any()
    assert (added[1, :4] == 1 << 20).all()


@pytest.mark.parametrize("factory", ["karen_ner", "karen_textcat"])
def test_clusters_can_be_disabled(factory: str) -> None:
    architecture = {"karen_ner": "SparseChain", "karen_textcat": "SparseNgrams"}[factory]
    sizes = []
    for wanted in (True, False):
        nlp = spacy.blank("en")
        model = {
            "@architectures": f"karen_learner.{architecture}.v1",
            "word_clusters": wanted,
            "table_bits": 10,
        }
        if factory == "karen_textcat":
            model |= {"exclusive_classes": True, "word_polarities": False}
        word_clusters.cache_clear()
        pipe: Any = nlp.add_pipe(factory, config={"model": model})
        doc = nlp.make_doc("from london")
        truth = {"entities": [(5, 11, "CITY")], "cats": {"travel": 1.0, "music": 0.0}}
        example = Example.from_dict(doc, truth)
        nlp.initialize(lambda example=example: [example])
        sizes.append(len(pipe.model.to_bytes()))
        assert word_clusters.cache_info().misses == wanted  # a disabled table is not read
    assert sizes[0] > 1_000_000 > 10_000 > sizes[1]


@pytest.mark.parametrize("clustered", [True, False])
def test_a_cluster_classifies_an_untrained_word(clustered: bool) -> None:
    nlp = spacy.blank("en")
    pipe: Any = nlp.add_pipe("karen_textcat", config={"model": {**SPARSE, "word_clusters": clustered}})
    examples = [
        Example.from_dict(nlp.make_doc(text), {"cats": {label: 1.0}})
        for text, label in [("monday", "day"), ("tuesday", "day"), ("london", "town"), ("paris", "town")]
    ]
    pipe.initialize(lambda: examples, nlp=nlp)
    optimizer = nlp.create_optimizer()
    for _ in range(5):
        nlp.update(examples, sgd=optimizer)
    again = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    for pipeline in (nlp, again):
        assert (pipeline("chicago").cats["town"] > 0.65) == clustered
