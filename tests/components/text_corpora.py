"""Small corpora for the tests of text categorizers."""

import spacy
from spacy.language import Language
from spacy.training import Example

SPARSE = {"@architectures": "karen_learner.SparseNgrams.v1", "exclusive_classes": True, "table_bits": 14}
GREETINGS = ("hello there my friend", "good morning to you", "hi, how are you", "hey there, good day")
ORDERS = ("one pizza please", "i want to order food", "a large pizza with cheese", "please bring two pizzas")
FAREWELLS = ("goodbye and thanks", "see you later", "bye now, good night", "farewell my friend")
LABELLED = [
    *((text, "greet") for text in GREETINGS),
    *((text, "order") for text in ORDERS),
    *((text, "leave") for text in FAREWELLS),
]


def example(nlp: Language, text: str, *categories: str) -> Example:
    return Example.from_dict(nlp.make_doc(text), {"cats": dict.fromkeys(categories, 1.0)})


def corpus(nlp: Language) -> list[Example]:
    return [example(nlp, text, label) for text, label in LABELLED]


def sparse_pipeline(factory: str = "karen_textcat", **options: object) -> Language:
    """An untrained pipeline with one sparse text categorizer, `intent`, of three labels."""
    nlp = spacy.blank("en")
    model = {**SPARSE, "exclusive_classes": factory == "karen_textcat", **options}
    pipe = nlp.add_pipe(factory, name="intent", config={"model": model})
    pipe.initialize(lambda: corpus(nlp), nlp=nlp, labels=["greet", "order", "leave"])
    return nlp


def train(nlp: Language, passes: int = 8) -> Language:
    for _ in range(passes):
        nlp.update(corpus(nlp))
    return nlp
