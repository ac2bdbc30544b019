"""Condition trees, schedules, readings and incidents for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.tree import Tree

from karen_learner.cli.output import text
from karen_learner.cli.tables import FittingTable, utc_text
from karen_learner.disk import bytes_text
from karen_learner.records.incidents import Incident, Issue, StoryEntry
from karen_learner.records.readings import Reading
from karen_learner.records.triggers import ConditionResult, TriggerTick


def condition_tree(tick: TriggerTick) -> Iterator[RenderableType]:
    """The conditions of a tenant with their results, and the decision."""
    if not tick.fires:
        decision = "no cycle"
    elif tick.started:
        decision = f"a cycle began (mode {tick.mode})"
    else:
        decision = f"a cycle is wanted (mode {tick.mode})"
    tree = Tree(text(f"{tick.tenant_id} at {tick.at:%Y-%m-%d %H:%M:%S} UTC: {decision}", "bold"))
    _add(tree, tick.root)
    yield tree
    if tick.fires and tick.reason:
        yield text(f"reason: {tick.reason}")


def _add(parent: Tree, node: ConditionResult) -> None:
    mark, style = ("yes", "green") if node.holds else ("no", "dim")
    since = f", since {node.since:%Y-%m-%d %H:%M}" if node.since is not None else ""
    child = parent.add(text(f"{mark:<3} {node.name}: {node.why}{since}", style))
    for one in node.children:
        _add(child, one)


def readings_table(found: Mapping[str, Mapping[str, Reading]]) -> RenderableType:
    """The readings of tenants: value, interval, observations, alarm."""
    rows = [_reading_row(tenant, one) for tenant, all_ in found.items() for one in all_.values()]
    return FittingTable(rows, folded="reading") if rows else text("there is no tenant")


def _reading_row(tenant: str, one: Reading) -> dict[str, object]:
    return {
        "tenant": tenant,
        "reading": one.name,
        "value": "-" if one.value is None else _number(one, one.value),
        "interval": _interval(one),
        "observations": one.observations,
        "alarm": {None: "", True: "yes", False: "no"}[one.alarm],
        "false alarms/month": f"{one.false_alarms_per_month:.2g}" if one.false_alarms_per_month else "",
    }


def _interval(one: Reading) -> str:
    if one.low is None or one.high is None or one.low == one.high:
        return ""
    return f"{_number(one, one.low)} to {_number(one, one.high)}"


def _number(one: Reading, value: float) -> str:
    if one.unit == "bytes":
        return bytes_text(int(value))
    return f"{value:.3f}" if one.unit == "share" else f"{value:.4g} {one.unit}"


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
