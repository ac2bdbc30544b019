"""Condition trees, schedules and readings for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.tree import Tree

from karen_learner.cli.output import text
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
