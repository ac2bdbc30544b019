"""Brown clusters: read from the lookups, kept in the weights, none for languages without them."""

import numpy as np
import pytest
import spacy
from spacy.strings import get_string_id

from karen_learner.components.sparse_chain import chain_of
from karen_learner.components.token_features import NO_FEATURE, TokenFeaturizer, cut_into_segments
from karen_learner.components.word_clusters import WordClusters, word_clusters


def paths(clusters: WordClusters, *words: str) -> list[int]:
    return clusters.look_up(np.array([get_string_id(word) for word in words], dtype=np.uint64)).tolist()


def test_words_used_alike_share_a_path() -> None:
    seven, eight, london, nonsense = paths(word_clusters("en"), "seven", "eight", "london", "qwrtzx")
    assert seven == eight != 0
    assert london != 0
    assert nonsense == 0


def test_other_languages_have_none() -> None:
    assert len(word_clusters("xx")) == 0
    assert paths(word_clusters("xx"), "seven") == [0]


def test_they_go_through_arrays_and_damage_is_refused() -> None:
    clusters = word_clusters("en")
    arrays = clusters.arrays()
    again = WordClusters.from_arrays(arrays)
    assert (again.words == clusters.words).all()
    assert (again.paths == clusters.paths).all()
    with pytest.raises(ValueError, match="do not fit"):
        WordClusters.from_arrays({**arrays, "cluster_paths": arrays["cluster_paths"][1:]})


def test_features_have_places_for_them_only_where_there_are_some() -> None:
    nlp = spacy.blank("en")
    docs = [nlp.make_doc("seven qwrtzx")]
    segments = cut_into_segments([2], max_tokens=8)
    without = TokenFeaturizer()(docs, segments).tokens
    clustered = TokenFeaturizer(word_clusters("en"))(docs, segments).tokens
    added = clustered[:, without.shape[1] :]
    assert (clustered[:, : without.shape[1]] == without).all()
    assert (added[0] != NO_FEATURE).any()
    assert (added[1, :4] == NO_FEATURE).all()


def test_a_pipe_can_do_without() -> None:
    sizes = []
    for wanted in (True, False):
        nlp = spacy.blank("en")
        model = {
            "@architectures": "karen_learner.SparseChain.v1",
            "word_clusters": wanted,
            "table_bits": 10,
        }
        pipe = nlp.add_pipe("karen_ner", config={"model": model})
        pipe.add_label("CITY")
        nlp.initialize()
        sizes.append(len(chain_of(pipe.model).to_bytes()))
    assert sizes[0] > 1_000_000 > 10_000 > sizes[1]
