"""Copied, moved, damaged and mixed files of pipes: exact continuation, or an error that names the cause."""

import copy
import pickle
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.training import Example

from karen_learner.components.arrays import pack, unpack
from karen_learner.components.online.sample_weights import MAX_SAMPLE_WEIGHT, set_sample_weight
from karen_learner.components.online.shim import LearningShim, find_shim
from karen_learner.errors import ModelError

FACTORIES = ("karen_textcat", "karen_textcat_multilabel", "karen_ner")
WORDS = {"tree": "oak", "fish": "trout", "metal": "zinc"}


def blank(factory: str, table_bits: int = 12) -> Language:
    nlp = spacy.blank("xx")
    arch = "SparseChain" if factory == "karen_ner" else "SparseNgrams"
    model: dict[str, Any] = {"@architectures": f"karen_learner.{arch}.v1", "table_bits": table_bits}
    if factory != "karen_ner":
        model["exclusive_classes"] = factory == "karen_textcat"
    nlp.add_pipe(factory, name="pipe", config={"model": model})
    return nlp


def example(nlp: Language, label: str) -> Example:
    word = WORDS[label]
    cats = {one: float(one == label) for one in nlp.get_pipe("pipe").labels or WORDS}
    spans = [(6, 6 + len(word), label)]
    return Example.from_dict(nlp.make_doc(f"see a {word} today"), {"cats": cats, "entities": spans})


def update(nlp: Language, *labels: str) -> Language:
    for _ in range(6):
        nlp.update([example(nlp, label) for label in labels])
    return nlp


def trained(factory: str, *labels: str) -> Language:
    nlp = blank(factory)
    nlp.get_pipe("pipe").initialize(lambda: [example(nlp, label) for label in labels], nlp=nlp, labels=labels)
    return update(nlp, *labels)


def shim(nlp: Language) -> LearningShim[Any, Any, Any]:
    found = find_shim(nlp.get_pipe("pipe").model, LearningShim)
    assert found is not None
    return found


def weights(nlp: Language) -> bytes:
    shim(nlp).learning_weights()
    return shim(nlp).to_bytes()


def answer(nlp: Language, label: str) -> str:
    doc = nlp(f"see a {WORDS[label]} today")
    return max(doc.cats, key=lambda one: doc.cats[one]) if doc.cats else doc.ents[0].label_


@pytest.fixture(params=FACTORIES)
def factory(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def saved(factory: str, tmp_path: Path) -> Path:
    trained(factory, "tree", "fish").to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_pipe_loaded_over_another_uses_the_loaded_order_of_labels(factory: str) -> None:
    nlp = trained(factory, "tree", "fish").from_bytes(trained(factory, "fish", "tree").to_bytes())
    assert nlp.get_pipe("pipe").labels == ("fish", "tree")
    update(nlp, "tree", "fish")
    assert [answer(nlp, label) for label in ("tree", "fish")] == ["tree", "fish"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda nlp: pickle.loads(pickle.dumps(nlp))])
def test_a_copy_of_a_loaded_pipeline_trains_like_the_original(saved: Path, copied: Any) -> None:
    nlp = spacy.load(saved)
    other = copied(nlp)
    assert weights(update(nlp, "fish")) == weights(update(other, "fish"))


def test_a_copy_made_while_the_model_is_saved_saves_its_later_training(factory: str) -> None:
    original = shim(trained(factory, "tree", "fish"))
    with original.serving_form():
        copied = copy.deepcopy(original)
    served = copied.to_bytes()
    copied.learning_weights().rows.weights[1:] = 1.0
    assert copied.to_bytes() != served


def test_a_relative_path_is_resolved_when_the_pipeline_is_loaded(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved.parent)
    nlp = spacy.load(saved.name)
    monkeypatch.chdir("/")
    assert weights(update(nlp, "fish")) == weights(update(spacy.load(saved), "fish"))


def test_a_removed_state_is_an_error(saved: Path) -> None:
    nlp = spacy.load(saved)
    moved = saved.rename(saved.with_name("moved"))
    with pytest.raises(ModelError, match=rf"{saved}.*Load the model again"):
        update(nlp, "fish")
    assert weights(update(spacy.load(moved), "fish"))


def test_the_error_names_a_damaged_state_and_training_works_without_it(saved: Path) -> None:
    state = saved / "pipe" / "state" / "weights"
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(ModelError, match=rf"{state} is damaged.*delete it"):
        update(spacy.load(saved), "fish")
    state.unlink()
    assert answer(update(spacy.load(saved), "fish"), "fish") == "fish"


def test_the_state_of_another_version_is_not_saved_with_these_weights(saved: Path, factory: str) -> None:
    nlp = spacy.load(saved)
    trained(factory, "tree", "fish", "metal").to_disk(saved)
    with pytest.raises(ModelError, match=rf"{saved}.*overwritten"):
        nlp.to_disk(saved.with_name("copy"))


def test_files_of_two_models_are_detected(saved: Path, factory: str, tmp_path: Path) -> None:
    trained(factory, "tree", "fish", "metal").to_disk(tmp_path / "other")
    for file in ("model", "state/weights"):
        shutil.copy(tmp_path / "other" / "pipe" / file, saved / "pipe" / file)
    with pytest.raises(ModelError, match=rf"{saved}.*have 3 labels, its cfg has 2"):
        spacy.load(saved)


def test_weights_of_another_table_size_are_refused(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"saved with table_bits = 12, .* has table_bits = 14. Set it to 12"):
        spacy.load(saved, config={"components.pipe.model.table_bits": 14})


@pytest.mark.parametrize("form", ["training", "serving"])
def test_weights_of_earlier_versions_do_not_state_their_table_size(factory: str, form: str) -> None:
    saved = shim(trained(factory, "tree", "fish"))
    with saved.serving_form() if form == "serving" else nullcontext():
        data = saved.to_bytes()
    arrays = unpack(data[1:])
    del arrays["table_bits"]
    earlier = data[:1] + pack(arrays)
    assert shim(blank(factory)).from_bytes(earlier).labels == 2
    for bits in (10, 14):
        with pytest.raises(ModelError, match=rf"table_bits = 12, .* table_bits = {bits}"):
            shim(blank(factory, bits)).from_bytes(earlier)


@pytest.mark.parametrize("weight", [float("inf"), float("nan"), -1.0, 1e39, 10 * MAX_SAMPLE_WEIGHT])
def test_invalid_sample_weights_are_refused(factory: str, weight: float) -> None:
    nlp = trained(factory, "tree", "fish")
    before, one = weights(nlp), example(nlp, "fish")
    set_sample_weight(one.reference, weight)
    with pytest.raises(ValueError, match="must be between 0 and"):
        nlp.update([one])
    assert weights(nlp) == before


def test_get_loss_keeps_pending_gradients() -> None:
    nlp, other = trained("karen_ner", "tree", "fish"), trained("karen_ner", "tree", "fish")
    for one in (nlp, other):
        one.get_pipe("pipe").update([example(one, "fish")], sgd=None)
    nlp.get_pipe("pipe").get_loss([example(nlp, "tree")], None)
    for one in (nlp, other):
        one.get_pipe("pipe").finish_update(one.create_optimizer())
    assert weights(nlp) == weights(other)


def test_a_label_with_a_lone_surrogate_is_refused() -> None:
    nlp = trained("karen_ner", "tree", "fish")
    with pytest.raises(UnicodeEncodeError):
        nlp.get_pipe("pipe").add_label("\ud800")
    assert set(nlp.get_pipe("pipe").labels) == {"tree", "fish"}
    assert answer(blank("karen_ner").from_bytes(nlp.to_bytes()), "fish") == "fish"
