"""A small corpus and settings with which training takes a second."""

from pathlib import Path

import pytest

from karen_learner.records import LabelledText
from karen_learner.records.training import PipelineSpec
from karen_learner.settings import Settings, load_settings, shipped_configs

SENTENCES = [
    ("what is my balance", "balance", "neutral", []),
    ("show me the balance of my account please", "balance", "neutral", []),
    ("how much money do i have left", "balance", "neutral", []),
    ("my balance is wrong again, i am furious", "balance", "negative", []),
    ("great, my balance looks good", "balance", "positive", []),
    ("balance now", "balance", "neutral", []),
    ("i want to fly to paris", "travel", "neutral", [[17, 22, "place"]]),
    ("book me a flight to rome please", "travel", "neutral", [[20, 24, "place"]]),
    ("the flight to berlin was awful", "travel", "negative", [[14, 20, "place"]]),
    ("i love flying to rome", "travel", "positive", [[17, 21, "place"]]),
    ("flights to paris tomorrow", "travel", "neutral", [[11, 16, "place"]]),
    ("berlin trip please", "travel", "neutral", [[0, 6, "place"]]),
]
LABELS = {
    "intent": ("balance", "travel"),
    "sentiment": ("negative", "neutral", "positive"),
    "entities": ("place",),
}


@pytest.fixture
def examples() -> list[LabelledText]:
    return [
        LabelledText.model_validate(dict(zip(("text", "intent", "sentiment", "entities"), row, strict=True)))
        for row in SENTENCES
    ]


@pytest.fixture
def settings() -> Settings:
    return load_settings(
        overrides={
            "training.n_iter": 12,
            "training.min_updates": 0,
            "training.batch_size": 4,
            "training.learn_rate": 0.01,
        },
        environment={},
    )


@pytest.fixture
def spec() -> PipelineSpec:
    return PipelineSpec(template=shipped_configs() / "pipeline.cfg")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return tmp_path / "corpus"
