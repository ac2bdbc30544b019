"""The tracker for synchronous code."""

from __future__ import annotations

import inspect
from pathlib import Path

from karen_learner import blocking
from karen_learner.improvement import ImprovementTracker


def test_the_twin_has_all_methods_for_hosts() -> None:
    internal = {"open", "measure", "undo"}
    for name in {name for name in dir(ImprovementTracker) if not name.startswith("_")} - internal:
        ours = inspect.signature(getattr(blocking.ImprovementTracker, name))
        assert (
            ours.parameters.keys() == inspect.signature(getattr(ImprovementTracker, name)).parameters.keys()
        )


def test_a_ticket_is_written_and_found_again(tmp_path: Path) -> None:
    place = tmp_path / "tickets.db"
    with blocking.ImprovementTracker(place) as tracker:
        ticket_id = tracker.create_improvement_ticket("clearer questions")
        tracker.mark_implemented(ticket_id, "done")
    with blocking.ImprovementTracker(place) as tracker:
        assert tracker.ticket(ticket_id).status == "implemented"
        assert tracker.measure_impact(ticket_id).effect is None
