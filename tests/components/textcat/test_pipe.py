"""`karen_textcat`: a shared corpus, unknown examples, new labels."""

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.training import Example
from thinc.api import Adam

from tests.components.text_corpora import SPARSE

SMALL = {
    "@architectures": "spacy.TextCatReduce.v1",
    "exclusive_classes": True,
    "use_reduce_first": False,
    "use_reduce_last": False,
    "use_reduce_max": True,
    "use_reduce_mean": True,
    "tok2vec": {
        "@architectures": "spacy.HashEmbedCNN.v2",
        "pretrained_vectors": None,
        "width": 16,
        "depth": 1,
        "embed_size": 200,
        "window_size": 1,
        "maxout_pieces": 2,
        "subword_features": True,
    },
}
BOW = {
    "@architectures": "spacy.TextCatBOW.v3",
    "exclusive_classes": True,
    "ngram_size": 1,
    "no_output_layer": False,
    "length": 1024,
}


def example(nlp: Language, text: str, *categories: str) -> Example:
    return Example.from_dict(nlp.make_doc(text), {"cats": dict.fromkeys(categories, 1.0)})


@pytest.fixture(params=[SMALL, BOW, SPARSE], ids=["reduce", "bow", "sparse"])
def nlp(request: pytest.FixtureRequest) -> Language:
    """A pipeline with an intent and a sentiment pipe that share a corpus."""
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("en")
    intent = nlp.add_pipe("karen_textcat", name="intent", config={"model": request.param})
    sentiment = nlp.add_pipe("karen_textcat", name="sentiment", config={"model": request.param})
    intent.initialize(lambda: corpus(nlp), nlp=nlp, labels=["greet", "leave"])
    sentiment.initialize(lambda: corpus(nlp), nlp=nlp, labels=["positive", "negative"])
    return nlp


def corpus(nlp: Language) -> list[Example]:
    return [
        example(nlp, "hello there my friend", "greet", "positive"),
        example(nlp, "go away now", "leave", "negative"),
        example(nlp, "hello you nuisance", "greet", "negative"),
        example(nlp, "goodbye and thanks", "leave", "positive"),
    ]


def weights(nlp: Language, pipe: str) -> bytes:
    return nlp.get_pipe(pipe).model.to_bytes()


def test_two_pipes_learn_from_one_corpus(nlp: Language) -> None:
    optimizer = Adam(0.05)
    for _ in range(30):
        losses = nlp.update(corpus(nlp), sgd=optimizer)
    assert losses.keys() == {"intent", "sentiment"}
    cats = nlp("hello you nuisance").cats
    assert cats["greet"] > 0.9
    assert cats["negative"] > 0.9
    assert cats["greet"] + cats["leave"] == pytest.approx(1.0, abs=1e-5)


def test_an_example_without_known_labels_changes_no_weights(nlp: Language) -> None:
    before = weights(nlp, "intent"), weights(nlp, "sentiment")
    nlp.update([example(nlp, "hello again", "positive")], sgd=Adam(0.05))
    assert weights(nlp, "intent") == before[0]
    assert weights(nlp, "sentiment") != before[1]


def test_update_without_an_optimizer_changes_no_weights(nlp: Language) -> None:
    pipe = nlp.get_pipe("intent")
    before = weights(nlp, "intent")
    losses = pipe.update(corpus(nlp), sgd=None)
    assert losses["intent"] > 0
    assert weights(nlp, "intent") == before


def test_empty_texts_are_omitted(nlp: Language) -> None:
    assert nlp.get_pipe("intent").update([example(nlp, "", "greet")], sgd=Adam(0.01)) == {"intent": 0.0}


def test_a_new_label_keeps_the_other_labels(nlp: Language) -> None:
    optimizer = Adam(0.05)
    for _ in range(30):
        nlp.update(corpus(nlp), sgd=optimizer)
    assert nlp.get_pipe("intent").add_label("order") == 1
    assert nlp.get_pipe("intent").add_label("order") == 0
    assert nlp("hello there my friend").cats["greet"] > 0.5
    more = [*corpus(nlp), example(nlp, "one pizza please", "order")]
    optimizer = Adam(0.05)
    for _ in range(40):
        nlp.update(more, sgd=optimizer)
    assert nlp("one pizza please").cats["order"] > 0.8


def test_scores_have_the_name_of_the_pipe_and_omit_unknown_examples(nlp: Language) -> None:
    optimizer = Adam(0.05)
    for _ in range(30):
        nlp.update(corpus(nlp), sgd=optimizer)
    scores = nlp.evaluate([*corpus(nlp), example(nlp, "whatever")])
    assert scores["intent_acc"] == 1.0
    assert scores["sentiment_macro_f"] == pytest.approx(1.0)
    assert scores["cats_score"] == scores["sentiment_macro_f"]  # of the last pipe, as in spaCy
    assert nlp.get_pipe("intent").score([example(nlp, "whatever")]) == {}


def test_two_true_labels_are_refused(nlp: Language) -> None:
    with pytest.raises(ValueError, match="E895"):
        nlp.get_pipe("intent").get_loss(
            [example(nlp, "hello", "greet", "leave")], np.zeros((1, 2), dtype="f")
        )


def test_fewer_than_two_labels_are_refused() -> None:
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("karen_textcat")
    with pytest.raises(ValueError, match="E867"):
        pipe.initialize(lambda: [example(nlp, "hello", "greet")], nlp=nlp)


def test_without_given_labels_all_categories_are_labels_in_order() -> None:
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("karen_textcat", config={"model": SMALL})
    pipe.initialize(lambda: [example(nlp, "hello there", "greet"), example(nlp, "bye", "farewell")], nlp=nlp)
    assert pipe.labels == ("greet", "farewell")


def test_a_shared_corpus_needs_labels() -> None:
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("karen_textcat", name="intent", config={"model": SMALL})
    with pytest.raises(ValueError, match=r"E895.*initialize.components.intent"):
        pipe.initialize(lambda: corpus(nlp), nlp=nlp)


def test_disk_and_bytes_keep_the_predictions(nlp: Language, tmp_path: object) -> None:
    text = "hello there my friend"
    expected = nlp(text).cats
    nlp.to_disk(tmp_path)
    assert spacy.load(tmp_path)(text).cats == pytest.approx(expected)
    copy = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert copy(text).cats == pytest.approx(expected)


def test_the_package_registers_it() -> None:
    """The installation registers the pipe, without `--code`."""
    from importlib.metadata import entry_points

    names = {entry.name: entry.value for entry in entry_points(group="spacy_factories")}
    assert names["karen_textcat"] == "karen_learner.components.textcat.pipe:make_karen_textcat"
