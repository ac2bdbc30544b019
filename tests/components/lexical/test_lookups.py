"""Tables of spacy-lookups-data, read line by line."""

from itertools import islice

from spacy.strings import get_string_id

from karen_learner.components.lexical.lookups import lookup_entries, word_tables


def test_entries_are_words_and_numbers_by_falling_frequency() -> None:
    entries = list(islice(lookup_entries("en", "lexeme_prob"), 4))
    assert entries[2:] == [('"the"', "-3.5287666321"), ('"I"', "-3.7915651798")]
    assert list(lookup_entries("xx", "lexeme_prob")) == []


def test_the_tables_hold_the_values_of_spacy_lookups_data() -> None:
    tables = word_tables("en")
    assert tables.log_prob[get_string_id("the")] == -3.5287666321
    assert tables.log_prob[get_string_id("i")] == -3.7915651798
    assert tables.lemmas[get_string_id("running")] == get_string_id("run")
    assert tables.unknown == min(tables.log_prob.values()) < tables.rare_below < 0
    assert word_tables("en") is tables


def test_common_words_are_the_most_frequent_ones() -> None:
    assert word_tables("en").common[:4] == (".", ",", "the", "I")
    assert len(word_tables("en").common) == 5_000
    assert word_tables("xx").common == ()
