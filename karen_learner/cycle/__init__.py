"""One learning cycle: the stages in order, journalled. It decides; the rooms compute."""

from karen_learner.cycle.policy import RequestedMode, check_mode
from karen_learner.cycle.runner import LearningCycle
from karen_learner.cycle.stages import Rooms

__all__ = ["LearningCycle", "RequestedMode", "Rooms", "check_mode"]
