"""Strategies by domain: their choice, their limits, and the reactions to errors."""

from karen_learner.autonomy.strategies.chooser import StrategyChooser
from karen_learner.autonomy.strategies.error_rules import ErrorRules
from karen_learner.autonomy.strategies.knowledge import StrategyKnowledge
from karen_learner.autonomy.strategies.limits import LimitTuner
from karen_learner.autonomy.strategies.tallies import DiscountedTallies

__all__ = ["DiscountedTallies", "ErrorRules", "LimitTuner", "StrategyChooser", "StrategyKnowledge"]
