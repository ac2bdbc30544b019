"""Incidents and issues as tables and stories."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import RenderableType

from karen_learner.cli.output import text
from karen_learner.cli.tables import FittingTable, utc_text
from karen_learner.records.incidents import Incident, Issue, StoryEntry

STYLES = {"critical": "bold red", "warning": "yellow"}
SHORT = 8


def incident_table(found: Sequence[Incident]) -> list[RenderableType]:
    """Incidents, one row each. The end of an id names it."""
    rows = [
        {
            "incident": one.incident_id[-SHORT:],
            "tenant": one.tenant_id or "(home)",
            "type": one.type,
            "severity": one.severity,
            "state": one.state,
            "opened": utc_text(one.opened_at),
            "remedies": ", ".join(one.attempts) or None,
            "last": one.story[-1].text if one.story else None,
        }
        for one in found
    ]
    return [FittingTable(rows, optional=["remedies"], folded="last")] if rows else ["no incident"]


def incident_story(incident: Incident) -> list[RenderableType]:
    """An incident, and its story line by line."""
    tenant = incident.tenant_id or "(home)"
    head = f"{incident.incident_id}  {incident.type} of {tenant}: {incident.severity}, {incident.state}"
    return [text(head, "bold"), *_lines(incident.story)]


def issue_lines(issues: Sequence[Issue]) -> list[RenderableType]:
    """Each problem with its state and its solutions."""
    shown: list[RenderableType] = []
    for one in issues:
        state = f" ({one.state})" if one.state is not None else ""
        shown.append(text(f"{one.severity}: {one.type}: {one.summary}{state}", STYLES[one.severity]))
        shown.append(text(f"  next remedy: {one.next_remedy or 'none'}; {'; '.join(one.solutions)}"))
    return shown or [text("no problem is found", "bold green")]


def _lines(story: Iterable[StoryEntry]) -> Iterable[RenderableType]:
    for entry in story:
        facts = ", ".join(f"{name}={value}" for name, value in entry.facts.items() if value is not None)
        yield text(f"{utc_text(entry.at)}  {entry.kind:<12}  {entry.text}{f'  [{facts}]' if facts else ''}")
