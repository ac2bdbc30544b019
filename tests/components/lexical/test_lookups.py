"""Tables of spacy-lookups-data."""

from spacy.strings import get_string_id

from karen_learner.components.lexical.lookups import first_entries, nonzero_numbers, word_tables


def test_entries_are_words_and_numbers_by_falling_frequency() -> None:
    entries = first_entries("en", "lexeme_prob", 4)
    assert list(entries.items())[2:] == [("the", -3.5287666321), ("I", -3.7915651798)]
    assert first_entries("xx", "lexeme_prob", 4) == {}


def test_a_whole_table_has_its_last_entry() -> None:
    lemmas = first_entries("en", "lemma_lookup")
    assert first_entries("en", "lemma_lookup", len(lemmas) + 9) == lemmas
    assert lemmas["zygotes"] == "zygote"


def test_zeros_are_left_out() -> None:
    numbers = nonzero_numbers("en", "lexeme_cluster")
    assert numbers["the"] == 11
    assert all(numbers.values())
    assert nonzero_numbers("xx", "lexeme_cluster") == {}


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
