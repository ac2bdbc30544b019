"""Tables of spacy-lookups-data, read line by line."""

from itertools import islice

from karen_learner.components.lexical.lookups import common_words, lookup_entries


def test_entries_are_words_and_numbers_by_falling_frequency() -> None:
    entries = list(islice(lookup_entries("en", "lexeme_prob"), 4))
    assert entries[2:] == [('"the"', "-3.5287666321"), ('"I"', "-3.7915651798")]
    assert list(lookup_entries("xx", "lexeme_prob")) == []


def test_common_words_are_the_most_frequent_ones() -> None:
    assert common_words("en")[:4] == (".", ",", "the", "I")
    assert len(common_words("en")) == 5_000
    assert common_words("xx") == ()
