"""One learning cycle: the stages in order, journalled, under a lease."""

from karen_learner.cycle.policy import CyclePlanner, RequestedMode, check_mode
from karen_learner.cycle.runner import LearningCycle

__all__ = ["CyclePlanner", "LearningCycle", "RequestedMode", "check_mode"]
