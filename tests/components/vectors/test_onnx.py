"""`karen_learner.OnnxVectors.v1`: exact vectors, hostile texts, unsuitable folders."""

import copy
import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import spacy
from onnx import TensorProto
from spacy.language import Language

from karen_learner.components.vectors.base import vectors_layer
from karen_learner.components.vectors.onnx import OnnxVectors, onnx_vectors
from karen_learner.errors import EncoderError, EncoderMismatch, EncoderNotInstalled
from tests.components.tiny_encoder import UNK, VOCABULARY, WIDTH, ids, make_encoder, table, write_tokenizer
from tests.components.vectors_contract import check_contract


@pytest.fixture
def nlp() -> Language:
    return spacy.blank("en")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_encoder(tmp_path / "encoder")


def unit(row: np.ndarray) -> np.ndarray:
    return row / np.linalg.norm(row)


def sentence(vectors: OnnxVectors, nlp: Language, text: str) -> np.ndarray:
    return vectors([nlp.make_doc(text)])[0]


def tokens(vectors: OnnxVectors, nlp: Language, text: str) -> np.ndarray:
    return vectors.tokens([nlp.make_doc(text)])[0]


def test_the_contract_of_vectors_holds(folder: Path, nlp: Language) -> None:
    check_contract(OnnxVectors(folder), nlp)
    check_contract(OnnxVectors(folder, cache_size=0, token_cache_size=0), nlp)


@pytest.mark.parametrize("pooling", [None, "mean_tokens"])
def test_a_text_vector_is_the_normalized_mean_of_its_sub_words(
    tmp_path: Path, nlp: Language, pooling: str | None
) -> None:
    vectors = OnnxVectors(make_encoder(tmp_path, pooling=pooling))
    assert vectors.width == WIDTH
    expected = unit(table()[ids("hello", "play", "##ing", "friend")].mean(axis=0))
    np.testing.assert_allclose(sentence(vectors, nlp, "Hello playing friend"), expected, rtol=1e-5)


def test_cls_pooling_uses_the_first_sub_word(tmp_path: Path, nlp: Language) -> None:
    vectors = OnnxVectors(make_encoder(tmp_path, pooling="cls_token"))
    np.testing.assert_allclose(sentence(vectors, nlp, "hello"), unit(table()[ids()[0]]), rtol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "cls"])
def test_the_short_form_of_the_pooling_is_read(tmp_path: Path, mode: str, folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    assert OnnxVectors(folder).encoder.folder.pooling == mode


def test_pooled_output_of_a_model_is_used(tmp_path: Path, nlp: Language) -> None:
    expected = unit(table()[ids("hello", "friend")].max(axis=0))
    both = OnnxVectors(make_encoder(tmp_path / "b", outputs=("last_hidden_state", "sentence_embedding")))
    np.testing.assert_allclose(sentence(both, nlp, "hello friend"), expected, rtol=1e-5)
    np.testing.assert_allclose(tokens(both, nlp, "hello")[0], table()[VOCABULARY["hello"]], rtol=1e-6)
    alone = OnnxVectors(make_encoder(tmp_path / "a", outputs=("sentence_embedding",)))
    np.testing.assert_allclose(sentence(alone, nlp, "hello friend"), expected, rtol=1e-5)
    with pytest.raises(EncoderError, match=r"only vectors of whole texts.*an export with last_hidden_state"):
        alone.tokens([nlp.make_doc("hello")])


def test_the_pooler_output_is_not_the_text_vector(tmp_path: Path, nlp: Language) -> None:
    vectors = OnnxVectors(make_encoder(tmp_path, outputs=("pooler_output", "last_hidden_state")))
    expected = unit(table()[ids("hello")].mean(axis=0))
    np.testing.assert_allclose(sentence(vectors, nlp, "hello"), expected, rtol=1e-5)


@pytest.mark.parametrize("inputs", [("input_ids",), ("input_ids", "attention_mask")])
@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
def test_inputs_can_be_fewer_and_of_32_bits(
    tmp_path: Path, nlp: Language, inputs: tuple[str, ...], kind: int
) -> None:
    vectors = OnnxVectors(make_encoder(tmp_path, inputs=inputs, kind=kind, model_file="model.onnx"))
    expected = unit(table()[ids("hello")].mean(axis=0))
    np.testing.assert_allclose(sentence(vectors, nlp, "hello"), expected, rtol=1e-5)


def test_a_token_vector_is_the_mean_of_overlapping_sub_words(folder: Path, nlp: Language) -> None:
    found = tokens(OnnxVectors(folder), nlp, "Friends don't  order!")  # friend ##s | do | n't -> don ' t
    rows = {word: table()[number] for word, number in VOCABULARY.items()}
    expected = [
        (rows["friend"] + rows["##s"]) / 2,
        rows["do"],
        (rows["##n"] + rows["'"] + rows["t"]) / 3,
        np.zeros(WIDTH),
        rows["order"],
        rows["!"],
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_sub_word_across_tokens_belongs_to_each(folder: Path) -> None:
    nlp = spacy.blank("en")
    doc = spacy.tokens.Doc(nlp.vocab, words=["hel", "lo", "🍕", "bye"], spaces=[False, True, True, False])
    found = OnnxVectors(folder).tokens([doc])[0]
    words = ("hello", "hello", "🍕", "bye")
    np.testing.assert_allclose(found, table()[[VOCABULARY[word] for word in words]], rtol=1e-6)


def test_the_token_cache_distinguishes_tokenizations(folder: Path, nlp: Language) -> None:
    vectors = OnnxVectors(folder)
    whole = spacy.tokens.Doc(nlp.vocab, words=["playing"], spaces=[False])
    parts = spacy.tokens.Doc(nlp.vocab, words=["play", "ing"], spaces=[False, False])
    assert [len(found) for found in vectors.tokens([whole, parts, whole])] == [1, 2, 1]
    assert (vectors.token_cache.hits, vectors.token_cache.misses) == (0, 3)


def test_long_texts_are_truncated(folder: Path, nlp: Language) -> None:
    vectors = OnnxVectors(folder)  # 16 tokens, two of them special
    expected = unit(table()[ids(*["pizza"] * 14)].mean(axis=0))
    np.testing.assert_allclose(sentence(vectors, nlp, "pizza " * 1000), expected, rtol=1e-5)
    found = tokens(vectors, nlp, "pizza " * 20)
    assert found.any(axis=1).tolist() == [True] * 14 + [False] * 6


@pytest.mark.parametrize(("limit", "expected"), [(5, 5), (None, 256)])
def test_the_tokenizer_can_set_the_limit(tmp_path: Path, limit: int | None, expected: int) -> None:
    folder = make_encoder(tmp_path, max_tokens=None)
    file = folder / "tokenizer.json"
    config = json.loads(file.read_text())
    truncation = {"max_length": limit, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    file.write_text(json.dumps({**config, "truncation": truncation if limit else None}))
    assert OnnxVectors(folder).encoder.folder.max_tokens == expected


def test_unknown_words_have_the_unknown_vector(folder: Path, nlp: Language) -> None:
    found = sentence(OnnxVectors(folder), nlp, "👽")
    np.testing.assert_allclose(found, unit(table()[[*ids()[:1], UNK, *ids()[1:]]].mean(axis=0)), rtol=1e-5)


def test_texts_of_different_lengths_keep_their_order(folder: Path, nlp: Language) -> None:
    rng = np.random.default_rng(1)
    words = np.asarray(["hello", "pizza", "order", "friend", "morning"])
    texts = [" ".join(rng.choice(words, size=rng.integers(1, 9))) for _ in range(600)]
    found = OnnxVectors(folder)([nlp.make_doc(text) for text in texts])
    expected = [unit(table()[ids(*text.split())].mean(axis=0)) for text in texts]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_cache_is_bounded_and_counted(folder: Path, nlp: Language) -> None:
    vectors = OnnxVectors(folder, cache_size=2)
    for text in ("hello", "pizza", "hello", "order", "pizza"):
        sentence(vectors, nlp, text)
    assert (vectors.cache.hits, vectors.cache.misses, len(vectors.cache)) == (1, 4, 2)


def test_threads_get_the_same_vectors(folder: Path, nlp: Language) -> None:
    vectors, alone = OnnxVectors(folder, cache_size=3), OnnxVectors(folder)
    docs = [nlp.make_doc(" ".join([word] * n)) for word in ("hello", "pizza") for n in range(1, 6)]
    expected = alone(docs)
    with ThreadPoolExecutor(8) as threads:
        for found in threads.map(lambda _: vectors(docs), range(40)):
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(vectors.cache) == 3


def test_pipes_with_the_same_encoder_share_it(folder: Path, tmp_path: Path) -> None:
    first = onnx_vectors(str(folder))
    assert onnx_vectors(str(folder)) is first
    assert onnx_vectors(str(folder), cache_size=5) is not first
    assert copy.deepcopy(first) is first
    assert pickle.loads(pickle.dumps(first)) is first
    make_encoder(folder, seed=1)
    assert onnx_vectors(str(folder)) is not first


def test_negative_sizes_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="cache_size >= 0"):
        OnnxVectors(folder, cache_size=-1)


def _wrong_pooling(folder: Path) -> None:
    make_encoder(folder, pooling="max_tokens")


def _no_pooling(folder: Path) -> None:
    make_encoder(folder, pooling="none_of_them")


def _wrong_length(folder: Path) -> None:
    make_encoder(folder, max_tokens=0)


def _damaged_json(folder: Path) -> None:
    (folder / "sentence_bert_config.json").write_text("{")


def _no_object(folder: Path) -> None:
    (folder / "sentence_bert_config.json").write_text("[]")


def _damaged_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def _damaged_model(folder: Path) -> None:
    (folder / "onnx" / "model.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1")


def _no_model(folder: Path) -> None:
    (folder / "onnx" / "model.onnx").unlink()


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _strange_input(folder: Path) -> None:
    make_encoder(folder, inputs=("input_ids", "pixel_values"))


def _no_ids(folder: Path) -> None:
    make_encoder(folder, inputs=("attention_mask",))


def _strange_output(folder: Path) -> None:
    make_encoder(folder, outputs=("lengths",))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_wrong_pooling, r"1_Pooling.config\.json requires pooling_mode_max_tokens.*Use another encoder"),
        (_no_pooling, r"1_Pooling.config\.json requires no pooling"),
        (_wrong_length, r"sentence_bert_config\.json has 0 as the maximum number of tokens.*3 or more"),
        (_damaged_json, r"sentence_bert_config\.json is not JSON.*Download it again"),
        (_no_object, r"sentence_bert_config\.json holds no JSON object"),
        (_damaged_tokenizer, r"tokenizer\.json is not a tokenizer.*Export the model again"),
        (_damaged_model, r"model\.onnx is not an ONNX model.*Export the model again"),
        (_no_model, r"lacks the ONNX model: there is no onnx/model\.onnx and no model\.onnx.*export"),
        (_no_tokenizer, r"lacks the tokenizer: there is no tokenizer\.json"),
        (_strange_input, r"model\.onnx takes input_ids, pixel_values; it must take input_ids"),
        (_no_ids, r"model\.onnx is not an ONNX model|takes attention_mask; it must take input_ids"),
        (_strange_output, r"returns lengths of shape \(2,\); it must return floats"),
    ],
)
def test_an_unsuitable_folder_is_a_clear_error(folder: Path, damage: object, message: str) -> None:
    damage(folder)
    with pytest.raises(EncoderError, match=message):
        OnnxVectors(folder)


def test_no_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"there is no folder .*nowhere .*set `path`"):
        OnnxVectors(tmp_path / "nowhere")


def test_a_tokenizer_of_another_model_is_a_clear_error(folder: Path, nlp: Language) -> None:
    file = folder / "tokenizer.json"
    config = json.loads(file.read_text())
    config["model"]["vocab"]["hello"] = 9_999
    file.write_text(json.dumps(config))
    vectors = OnnxVectors(folder)
    with pytest.raises(EncoderError, match=r"cannot compute 1 texts of 3 tokens.*belongs to this model"):
        sentence(vectors, nlp, "hello")


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_without_the_extra_the_error_names_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EncoderNotInstalled, match=r"pip install 'karen-learner\[encoder\]'"):
        OnnxVectors(folder)


def test_a_model_saves_the_identity_of_its_encoder_and_refuses_another(tmp_path: Path) -> None:
    learned = OnnxVectors(make_encoder(tmp_path / "one"))
    data = vectors_layer(learned).to_bytes()
    assert len(data) < 1_000
    make_encoder(tmp_path / "moved")
    vectors_layer(OnnxVectors(tmp_path / "moved")).from_bytes(data)
    other = vectors_layer(OnnxVectors(make_encoder(tmp_path / "two", seed=1)))
    with pytest.raises(
        EncoderMismatch, match=r"trained on vectors of .*one.*loaded with .*two.*train it again"
    ):
        other.from_bytes(data)


@pytest.mark.parametrize("change", ["1_Pooling/config.json", "onnx/model.onnx_data", "tokenizer.json"])
def test_the_digest_covers_all_relevant_files(folder: Path, change: str) -> None:
    before = OnnxVectors(folder).identity["digest"]
    (folder / "README.md").write_text("not one of them")
    assert OnnxVectors(folder).identity["digest"] == before
    if change == "tokenizer.json":
        write_tokenizer(folder)
        assert OnnxVectors(folder).identity["digest"] == before
        config = json.loads((folder / change).read_text())
        (folder / change).write_text(json.dumps(config))
    else:
        (folder / change).parent.mkdir(exist_ok=True)
        (folder / change).write_text('{"pooling_mode": "mean"}')
    assert OnnxVectors(folder).identity["digest"] != before


def test_the_layer_returns_the_vectors(folder: Path, nlp: Language) -> None:
    vectors = OnnxVectors(folder)
    layer = vectors_layer(vectors)
    docs = [nlp.make_doc("hello"), nlp.make_doc("one pizza")]
    found, backprop = layer.copy().begin_update(docs)
    np.testing.assert_array_equal(found, vectors(docs))
    assert backprop(found) == []
    assert layer.get_dim("nO") == WIDTH


@pytest.mark.parametrize("registered", ["OnnxVectors", "StaticVectors"])
def test_vectors_are_registered(folder: Path, registered: str) -> None:
    options = {"path": str(folder)} if registered == "OnnxVectors" else {"width": 3}
    config = {"vectors": {"@misc": f"karen_learner.{registered}.v1", **options}}
    resolved = spacy.registry.resolve(config)["vectors"]
    assert type(resolved).__name__ == registered
