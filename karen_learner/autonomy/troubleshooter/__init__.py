"""Finds problems, tries remedies at the smallest scope, verifies them, undoes them, and tells people."""

from karen_learner.autonomy.troubleshooter.troubleshooter import AutomatedTroubleshooter

__all__ = ["AutomatedTroubleshooter"]
