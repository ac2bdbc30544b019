"""The public interface for synchronous code is that of the async classes."""

import inspect
from pathlib import Path

import pytest

from karen_learner.analysis import SpacyAnalyzer
from karen_learner.blocking import BlockingAnalyzer, BlockingLearner, BlockingTrainingPipeline
from karen_learner.learner import AutonomousLearner
from karen_learner.pipeline import IncrementalTrainingPipeline

TWINS: dict[type, type] = {
    AutonomousLearner: BlockingLearner,
    IncrementalTrainingPipeline: BlockingTrainingPipeline,
    SpacyAnalyzer: BlockingAnalyzer,
}
FOR_DEPLOYMENTS = {"on_deployed", "base_model", "base_with_tasks", "base_pipeline", "write_base_pipeline"}
"""Methods of an analyzer that its learner calls."""
PARTS = {"store", "layout", "analyzer", "models", "maintenance", "review_desk"}
"""Parts that only coroutines use: `BlockingLearner.learner` has them."""


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("kind", TWINS)
def test_a_twin_has_every_public_method_with_the_same_parameters(kind: type) -> None:
    twin = TWINS[kind]
    missing = public(kind) - public(twin) - FOR_DEPLOYMENTS
    assert not missing, f"add `name = blocking({kind.__name__}.name)` to {twin.__name__} for each"
    for name in public(kind) - FOR_DEPLOYMENTS:
        ours, theirs = getattr(twin, name), getattr(kind, name)
        if inspect.iscoroutinefunction(theirs):
            assert not inspect.iscoroutinefunction(ours)
            assert inspect.signature(ours).parameters.keys() == inspect.signature(theirs).parameters.keys()
            assert ours.__doc__


def test_a_twin_has_every_public_attribute(tmp_path: Path) -> None:
    learner = AutonomousLearner(tmp_path)
    missing = {name for name in vars(learner) if not name.startswith("_")} - set(
        dir(BlockingLearner(learner))
    )
    assert missing <= PARTS
