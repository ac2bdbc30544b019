"""Examples as documents and as files: unknown labels, corrupt lines, weights."""

import json
import stat
import zlib
from pathlib import Path

import pytest
import spacy
import srsly
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, DocBin

from karen_learner.components.online.sample_weights import sample_weight
from karen_learner.corpora import docbin
from karen_learner.corpora.conversion import convert_corpus
from karen_learner.corpora.docbin import (
    corpus_docs,
    docs_of_shadow,
    read_docs,
    read_examples,
    to_doc,
    write_docbin,
    write_docs,
)
from karen_learner.corpora.exporters import ExportFile
from karen_learner.corpora.importers import iter_labelled, required
from karen_learner.corpora.lines import CorruptExample, Line, to_line, write_lines
from karen_learner.corpora.parsing import CorpusLine
from karen_learner.errors import ImportFormatError
from karen_learner.records import LabelledText


def numbered_docs(nlp: Language, path: Path, *, skipped: list[str]) -> dict[int, Doc]:
    return docs_of_shadow(corpus_docs(nlp, path, skipped=skipped), None)


def lines_to_docbin(nlp: Language, path: Path, *, skipped: list[str]) -> list[Doc]:
    docs = [doc for _, _, doc in read_docs(nlp, path, skipped=skipped)]
    write_docs(path.with_suffix(".spacy"), docs)
    return docs


def labelled(text: str, **labels: object) -> LabelledText:
    return LabelledText.model_validate({"text": text, **labels})


@given(
    st.text(min_size=1).filter(lambda text: not any(0xD800 <= ord(c) <= 0xDFFF for c in text)),
    st.none() | st.text("abc", min_size=1),
    st.none() | st.just(()),
)
def test_a_line_holds_exactly_the_known_labels(text: str, intent: str | None, entities: tuple | None) -> None:
    example = LabelledText(text=text, intent=intent, entities=entities)
    line = to_line(example)
    assert "\n" not in line
    assert LabelledText.model_validate_json(line) == example


async def test_unknown_entities_stay_unknown_in_a_docbin(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    rows = [
        labelled("to paris", intent="travel", entities=[[3, 8, "place"]]),
        labelled("to nowhere", intent="travel", entities=[]),
        labelled("who knows", intent="travel"),
    ]
    assert await write_lines(tmp_path / "train.jsonl", rows) == 3
    skipped: list[str] = []
    lines_to_docbin(nlp, tmp_path / "train.jsonl", skipped=skipped)
    known, none, unknown = DocBin().from_disk(tmp_path / "train.spacy").get_docs(nlp.vocab)
    assert skipped == []
    assert [(span.text, span.label_) for span in known.ents] == [("paris", "place")]
    assert none.has_annotation("ENT_IOB")
    assert not unknown.has_annotation("ENT_IOB")
    assert unknown.cats == {"travel": 1.0}


def iob(text: str, *entities: object, **labels: object) -> list[str]:
    doc = to_doc(spacy.blank("en"), labelled(text, entities=list(entities), **labels))
    return [token.ent_iob_ for token in doc]


def test_what_fits_of_the_entities_is_partial_annotation() -> None:
    text = "from paris to rome"
    assert iob(text, [5, 10, "place"], [14, 16, "place"]) == ["O", "B", "O", ""]
    assert iob(text, [5, 8, "place"], intent="travel") == ["O", "", "O", "O"]
    assert iob(text, [5, 10, "place"], [14, 18, None]) == ["O", "B", "O", ""]
    assert iob(text, [0, 7, None]) == ["", "", "O", "O"]
    with pytest.raises(CorruptExample, match="begins and ends with a token"):
        iob(text, [5, 8, "place"])


def test_unannotated_ranges_survive_json_lines_and_docbin(tmp_path: Path) -> None:
    given = labelled("from paris to rome", entities=[[5, 10, "place"], [14, 18, None]])
    assert given.unannotated == ((14, 18),)
    path = tmp_path / "train.jsonl"
    path.write_text(to_line(given) + "\n", encoding="utf-8")
    (line,) = read_examples(path)
    assert line.value is not None
    assert (line.value.entities, line.value.unannotated) == (given.entities, given.unannotated)
    write_docs(tmp_path / "train.spacy", [to_doc(spacy.blank("en"), given)])
    (imported,) = required(iter_labelled(tmp_path / "train.spacy"))
    assert (imported.entities, imported.unannotated) == (given.entities, given.unannotated)


def test_entities_of_another_tokenizer_are_left_out_and_told(tmp_path: Path) -> None:
    file = ExportFile(tmp_path / "out.spacy", "xx")
    examples = [
        labelled("I'd fly", intent="travel", entities=[[1, 3, "would"]]),
        labelled("we go", entities=[[0, 2, "we"]]),
    ]
    assert write_docbin(file, examples) == 2
    assert file.notes == ("1 entities that do not begin and end with a token of the pipeline",)
    assert write_docbin(ExportFile(file.path, "xx", spacy.blank("en")), examples) == 2
    first, _ = DocBin().from_disk(file.path).get_docs(spacy.blank("en").vocab)
    assert [ent.text for ent in first.ents] == ["'d"]


def test_overlapping_entities_are_corrupt() -> None:
    with pytest.raises(CorruptExample, match="cannot be set"):
        to_doc(spacy.blank("en"), labelled("to paris", entities=[[3, 8, "place"], [3, 8, "city"]]))


def test_corrupt_lines_are_reported_with_their_number(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"text": "fine"}\nnot json\n{"text": "x", "unknown": 1}\n\xff\xfe\n')
    assert [line.value is None for line in read_examples(path)] == [False, True, True, True]
    skipped: list[str] = []
    assert len(lines_to_docbin(spacy.blank("en"), path, skipped=skipped)) == 1
    assert skipped[0].startswith("train.jsonl line 2: not JSON")
    assert skipped[2].startswith("train.jsonl line 4: ")
    assert list(numbered_docs(spacy.blank("en"), path, skipped=[])) == [0]


def test_a_corpus_is_converted_for_spacy_train(tmp_path: Path) -> None:
    source = tmp_path / "corpus.jsonl"
    source.write_text("".join(to_line(labelled(f"text {n}", intent=f"i{n % 2}")) + "\n" for n in range(20)))
    conversion = convert_corpus(
        source, tmp_path / "train.spacy", dev=tmp_path / "dev.spacy", labels=tmp_path / "labels"
    )
    vocab = spacy.blank("en").vocab
    assert conversion.documents == 20
    assert stat.S_IMODE((tmp_path / "train.spacy").stat().st_mode) == 0o600
    assert len(list(DocBin().from_disk(tmp_path / "train.spacy").get_docs(vocab))) == 18
    assert len(list(DocBin().from_disk(tmp_path / "dev.spacy").get_docs(vocab))) == 2
    assert (tmp_path / "labels" / "intent.json").read_text().split() == ["[", '"i0",', '"i1"', "]"]


async def test_importance_weights_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "replay.jsonl"
    texts = [labelled(f"text {n}", intent="i") for n in range(4)]
    assert await write_lines(path, texts, importance_weight=[1.0, 2.5, 1 / 3, 1.0]) == 4
    weights = [line.value.importance_weight for line in read_examples(path) if line.value is not None]
    assert weights == [1.0, 2.5, 1 / 3, 1.0]
    docs = numbered_docs(spacy.blank("en"), path, skipped=[])
    assert [sample_weight(doc) for doc in docs.values()] == [1.0, 2.5, 1 / 3, 1.0]
    assert [doc.text for doc in docs.values()] == [text.text for text in texts]
    assert numbered_docs(spacy.blank("en"), tmp_path / "none.jsonl", skipped=[]) == {}


@pytest.mark.parametrize("importance_weight", ["0", "-1", "NaN", "Infinity", '"many"'])
def test_an_importance_weight_is_a_positive_number(importance_weight: str, tmp_path: Path) -> None:
    path = tmp_path / "replay.jsonl"
    path.write_text(f'{{"text": "x", "importance_weight": {importance_weight}}}\n')
    assert [line.value for line in read_examples(path)] == [None]


def test_the_moods_of_earlier_exports_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "well", "sentiment": "sad", "mood": {"sad": 0.5}}\n')
    assert list(read_examples(tmp_path / "train.jsonl")) == [
        Line(1, CorpusLine(text="well", sentiment="sad"))
    ]


def test_a_text_that_spacy_refuses_is_skipped_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    rows = [{"text": "a" * 1_000_001, "intent": "travel"}, {"text": "fly to rome", "intent": "travel"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    skipped: list[str] = []
    assert list(numbered_docs(spacy.blank("en"), path, skipped=skipped)) == [1]
    assert len(skipped) == 1
    assert skipped[0].startswith("train.jsonl line 1: spaCy rejects the text")
    assert len(skipped[0]) < 400


async def test_lines_that_are_held_out_of_a_shadow_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    texts = [labelled(f"text {n}", intent="i") for n in range(4)]
    await write_lines(path, texts, held_out=[0b00, 0b01, 0b10, 0b11], shadow=[0, 1, 2, 3])
    nlp = spacy.blank("en")
    assert list(numbered_docs(nlp, path, skipped=[])) == [0, 1, 2, 3]
    kept = [list(docs_of_shadow(corpus_docs(nlp, path, skipped=[]), shadow)) for shadow in range(3)]
    assert kept == [[0, 2], [0, 1], [0, 1, 2, 3]]
    lines = [line.value for line in read_examples(path) if line.value is not None]
    assert [(line.held_out, line.shadow) for line in lines] == [(0, 0), (1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("count", [3, 5])
async def test_a_column_needs_one_value_for_each_example(tmp_path: Path, count: int) -> None:
    texts = [labelled(f"text {n}", intent="i") for n in range(4)]
    with pytest.raises(ValueError, match=r"shorter|longer|column|value"):
        await write_lines(tmp_path / "train.jsonl", texts, held_out=[0] * count)


def test_a_docbin_with_cats_of_another_type_is_an_error(tmp_path: Path) -> None:
    content = srsly.msgpack_loads(zlib.decompress(DocBin(docs=[spacy.blank("en")("hello")]).to_bytes()))
    content["cats"] = [5]
    path = tmp_path / "x.spacy"
    path.write_bytes(zlib.compress(srsly.msgpack_dumps(content)))
    with pytest.raises(ImportFormatError, match="is no DocBin"):
        list(iter_labelled(path))


def test_a_docbin_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bomb.spacy"
    file.write_bytes(zlib.compress(bytes(50_000_000)))
    monkeypatch.setattr(docbin, "MAX_UNPACKED_BYTES", 10_000_000)
    with pytest.raises(ImportFormatError, match="unpacks to more than 10,000,000 bytes: split it"):
        list(iter_labelled(file))


def test_a_file_that_is_not_compressed_is_no_docbin(tmp_path: Path) -> None:
    file = tmp_path / "text.spacy"
    file.write_text("hello")
    with pytest.raises(ImportFormatError, match="is no DocBin"):
        list(iter_labelled(file))
