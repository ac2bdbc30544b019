"""Continue the training of an existing spaCy pipeline.

    python examples/existing_pipeline.py [HOME]

The script builds a pipeline with `ner` and `textcat` on one shared `tok2vec`. The learner copies it below
HOME, gives each pipe its own embedding, and continues its training. Your folder or package stays unchanged.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import spacy
from spacy.language import Language
from spacy.training import Example
from spacy.util import fix_random_seed

from karen_learner import create_autonomous_learner, create_spacy_analyzer

TENANT = "travel-agency"
CITIES = ("paris", "rome", "oslo", "lisbon", "vienna", "prague", "dublin", "athens")
ROWS = [
    {
        "text": f"{phrase} {city}",
        "intent": intent,
        "entities": [[len(phrase) + 1, len(phrase) + 1 + len(city), "CITY"]],
    }
    for intent, phrases in {
        "book": ("book a hotel in", "i need a room in", "reserve two nights in"),
        "weather": ("is it warm in", "will it rain in", "what is the weather like in"),
    }.items()
    for phrase in phrases
    for city in CITIES
]


def your_pipeline() -> Language:
    """An example pipeline: two intents and two of the cities, briefly trained."""
    fix_random_seed(0)
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec")
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96, "upstream": "*"}
    nlp.add_pipe("ner", config={"model": {"tok2vec": listener}})
    nlp.add_pipe(
        "textcat",
        config={
            "model": {
                "@architectures": "spacy.TextCatReduce.v1",
                "exclusive_classes": True,
                "use_reduce_first": False,
                "use_reduce_last": False,
                "use_reduce_max": False,
                "use_reduce_mean": True,
                "tok2vec": listener,
            }
        },
    )
    examples = [
        Example.from_dict(
            nlp.make_doc(row["text"]),
            {
                "cats": {intent: float(intent == row["intent"]) for intent in ("book", "weather")},
                "entities": [tuple(span) for span in row["entities"]],
            },
        )
        for row in ROWS
        if row["text"].endswith(("paris", "rome"))
    ]
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(5):
        nlp.update(examples, sgd=optimizer)
    return nlp


async def main(home: Path) -> None:
    analyzer = create_spacy_analyzer(your_pipeline(), tasks={"intent": "textcat", "entities": "ner"})
    overrides = {"training.n_iter": 6, "training.min_updates": 40}
    async with create_autonomous_learner(home, spacy_analyzer=analyzer, overrides=overrides) as learner:
        question = "will it rain in athens"
        before = await learner.analyze(TENANT, question)
        print(f"before: {before.intent} {[e.text for e in before.entities]} by {before.model_version}")
        result = await learner.bootstrap(TENANT, ROWS)
        after = await learner.analyze(TENANT, question)
        found = [entity.text for entity in after.entities]
        print(f"{result.status}; after: {after.intent} {found} by {after.model_version}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(Path(folder)))
