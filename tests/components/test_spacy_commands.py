"""spaCy's commands train, evaluate and package with our pipes, without `--code`."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.cli.package import get_third_party_dependencies
from spacy.language import Language

from karen_learner.corpora.conversion import convert_corpus

CONFIGS = Path(__file__).parents[2] / "configs"
PLACES = ("paris", "rome", "berlin", "oslo", "madrid", "vienna", "lisbon", "prague")
INTENTS = {
    "travel": "fly me to {} tomorrow",
    "weather": "will it rain in {} again",
    "balance": "show my balance in {} dollars",
}
MOODS = {"positive": "that would be great", "negative": "this is awful"}
TEXTS = [f"{phrase.format('london')} {mood}" for phrase in INTENTS.values() for mood in MOODS.values()]
Row = dict[str, Any]

LOAD = """
import json, sys
sys.path.insert(0, sys.argv[1])
import spacy
assert not [name for name in sys.modules if name.startswith("karen_learner")]
nlp = spacy.load("en_tiny")
answers = [[doc.cats, [(span.text, span.label_) for span in doc.ents]] for doc in nlp.pipe(sys.argv[2:])]
print(json.dumps({"version": nlp.meta["version"], "answers": answers}))
"""


def rows(places: Iterable[str]) -> list[Row]:
    found = []
    for place in places:
        for intent, phrase in INTENTS.items():
            for mood, words in MOODS.items():
                text = f"{phrase.format(place)} {words}"
                start = text.index(place)
                entities = [] if intent == "balance" else [[start, start + len(place), "place"]]
                found.append({"text": text, "intent": intent, "sentiment": mood, "entities": entities})
    return found


def without(*tasks: str) -> Callable[[Row], Row]:
    return lambda row: {key: value for key, value in row.items() if key not in tasks}


def run(folder: Path, *words: object) -> str:
    """Output of a command, which runs offline with the installed package."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def trained_by_spacy(
    folder: Path, config: str, row_of: Callable[[Row], Row] = dict, *, suffix: str = "spacy"
) -> Path:
    """A folder with `train` and `test` as JSON lines and DocBin files, and the output of `spacy train`."""
    for name, places in {"train": PLACES[:6], "test": PLACES[6:]}.items():
        lines = "".join(json.dumps(row_of(row)) + "\n" for row in rows(places))
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        labels = folder / "labels" if name == "train" else None
        convert_corpus(folder / f"{name}.jsonl", folder / f"{name}.spacy", language="en", labels=labels)
    paths = ["--paths.train", f"train.{suffix}", "--paths.dev", f"test.{suffix}"]
    if config == "train.cfg":
        paths += ["--paths.labels", "labels"]
    often = [
        "--training.eval_frequency",
        2,
    ]  # by default, training on few texts ends before the first evaluation
    run(folder, "-m", "spacy", "train", CONFIGS / config, "--output", "out", *paths, *often)
    return folder


def evaluated_by_spacy(folder: Path) -> dict[str, Any]:
    best = folder / "out" / "model-best"
    run(folder, "-m", "spacy", "evaluate", best, "test.spacy", "--output", "scores.json")
    return dict(json.loads((folder / "scores.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped pipeline, trained by `spacy train`."""
    return trained_by_spacy(tmp_path_factory.mktemp("spacy"), "train.cfg")


@pytest.fixture
def nlp(workplace: Path) -> Language:
    return spacy.load(workplace / "out" / "model-best")


def answers(nlp: Language, **options: Any) -> list[tuple[dict[str, float], list[tuple[str, str]]]]:
    docs = nlp.pipe(TEXTS, **options)
    return [(dict(doc.cats), [(span.text, span.label_) for span in doc.ents]) for doc in docs]


def assert_the_same(found: Any, expected: Any) -> None:
    for (cats, entities), (expected_cats, expected_entities) in zip(found, expected, strict=True):
        assert cats == pytest.approx(expected_cats, abs=1e-6)
        assert [tuple(entity) for entity in entities] == expected_entities


def test_train_and_evaluate_the_shipped_pipeline(workplace: Path) -> None:
    scores = evaluated_by_spacy(workplace)
    assert scores["intent_acc"] == scores["sentiment_acc"] == 1.0
    assert scores["ents_f"] >= 0.8
    assert scores["intent_f_per_type"].keys() == INTENTS.keys()
    assert scores["ents_per_type"].keys() == {"place"}


@pytest.mark.parametrize(
    ("config", "row_of", "score"),
    [
        ("text.cfg", without("sentiment", "entities"), "textcat_acc"),
        ("entities.cfg", without("sentiment", "intent"), "ents_f"),
    ],
    ids=["text.cfg", "entities.cfg"],
)
def test_train_and_evaluate_a_single_pipe(
    config: str, row_of: Callable[[Row], Row], score: str, tmp_path: Path
) -> None:
    assert evaluated_by_spacy(trained_by_spacy(tmp_path, config, row_of))[score] >= 0.8


def test_json_lines_of_all_tasks_need_no_conversion(tmp_path: Path) -> None:
    trained_by_spacy(tmp_path, "text.cfg", suffix="jsonl")
    nlp = spacy.load(tmp_path / "out" / "model-best")
    assert set(nlp.get_pipe("textcat").labels) == INTENTS.keys()
    assert nlp("fly me to lisbon tomorrow").cats["travel"] > 0.5


def test_the_training_of_the_shipped_pipeline_is_logged(workplace: Path) -> None:
    lines = (workplace / "metrics" / "training.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1])
    assert last["losses"].keys() == {"intent", "sentiment", "ner"}
    assert last["words"] > 0
    assert max(json.loads(line)["score"] for line in lines) > 0.9


def test_several_processes_find_the_same_entities(nlp: Language) -> None:
    assert_the_same(answers(nlp, n_process=2, batch_size=2), answers(nlp))


def test_a_packaged_pipeline_is_loaded_by_its_name(workplace: Path, nlp: Language, tmp_path: Path) -> None:
    best = workplace / "out" / "model-best"
    options = ["--name", "tiny", "--version", "1.2.3", "--build", "none"]
    run(tmp_path, "-m", "spacy", "package", best, tmp_path, *options)
    package = tmp_path / "en_tiny-1.2.3"
    install_in_place(package)
    report = json.loads(run(tmp_path, "-c", LOAD, package, *TEXTS))
    assert report["version"] == "1.2.3"
    assert_the_same(report["answers"], answers(nlp))
    for part in ("intent", "sentiment", "ner"):  # training can continue
        state = Path(part, "state", "weights")
        assert (package / "en_tiny" / package.name / state).read_bytes() == (best / state).read_bytes()


def install_in_place(package: Path) -> None:
    """Install the package like its `setup.py`. spaCy loads only installed packages by name."""
    for folder in (package / "en_tiny", package / "en_tiny" / package.name):
        shutil.copy(package / "meta.json", folder)
    info = package / f"{package.name}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: en_tiny\nVersion: 1.2.3\n")


def test_a_packaged_pipeline_requires_this_package(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"karen_learner": ["karen-learner"]}  # an editable installation lacks this entry
    monkeypatch.setattr("spacy.util.packages_distributions", lambda: installed)
    (requirement,) = get_third_party_dependencies(nlp.config)
    assert requirement.startswith("karen-learner>=")
