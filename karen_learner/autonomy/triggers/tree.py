"""The condition tree: read from the settings, and evaluated. Every node is evaluated at every tick.

A node is the name of a trigger, `{name: {parameters}}`, `{"any": [nodes]}`, `{"all": [nodes]}`,
`{"not": node}`, or `{"held": {"minutes": number, "of": node}}`: its node holds since that time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from karen_learner.autonomy.triggers import TRIGGERS, Situation, Trigger
from karen_learner.autonomy.triggers.trigger import hours
from karen_learner.errors import InvalidInput, SettingsError
from karen_learner.records.triggers import ConditionResult

MAX_DEPTH = 20
MAX_MINUTES = 100_000
SETTING = "the setting triggers.condition"


@dataclass(frozen=True)
class Leaf:
    """A trigger of the tree."""

    name: str
    trigger: Trigger

    def evaluate(self, situation: Situation, before: ConditionResult | None) -> ConditionResult:
        """The result of this node. `before` is its result at the last tick."""
        check = self.trigger.check(situation)
        found = _result(self.name, check.holds, check.why, situation, before)
        return found.model_copy(update={"reading": check.reading})


@dataclass(frozen=True)
class Combined:
    """`any`, `all` or `not` of other nodes."""

    name: str
    nodes: tuple[Node, ...]

    def evaluate(self, situation: Situation, before: ConditionResult | None) -> ConditionResult:
        """The result of this node and all below it."""
        children = _children(self.nodes, situation, before)
        held = [child.holds for child in children]
        holds = {"any": any(held), "all": all(held), "not": not all(held)}[self.name]
        if self.name == "not":
            why = f"{_label(children[0])} {'does not hold' if holds else 'holds'}"
            return _result(self.name, holds, why, situation, before, children)
        blocking = [_label(child) for child in children if not child.holds]
        holding = [_label(child) for child in children if child.holds]
        names = (blocking if self.name == "all" else holding) or [_label(child) for child in children]
        word = "not yet" if self.name == "all" and not holds else ("by" if holds else "none of")
        return _result(self.name, holds, f"{word} {', '.join(names)}", situation, before, children)


@dataclass(frozen=True)
class Held:
    """A node that has held for some time without a break."""

    minutes: float
    node: Node

    def evaluate(self, situation: Situation, before: ConditionResult | None) -> ConditionResult:
        """The result of this node and that below it."""
        children = _children((self.node,), situation, before)
        span = situation.since(children[0].since) if children[0].holds else None
        holds = span is not None and span >= timedelta(minutes=self.minutes)
        why = f"held for {hours(span)}, needed {self.minutes:g} min"
        return _result("held", holds, why, situation, before, children)


Node = Leaf | Combined | Held


def read_tree(value: Any, *, depth: int = 0) -> Node:
    """The tree of a setting. Raises SettingsError, with the place of the problem."""
    if depth > MAX_DEPTH:
        raise SettingsError(f"{SETTING} is deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        return _leaf(value, {})
    if not isinstance(value, Mapping) or len(value) != 1:
        raise SettingsError(
            f"{SETTING}: a node is the name of a trigger, or a mapping with one key, not {value!r:.80}"
        )
    name, inner = next(iter(value.items()))
    if name in ("any", "all"):
        if not isinstance(inner, Sequence) or isinstance(inner, str) or not inner:
            raise SettingsError(f"{SETTING}: {name!r} needs a list of nodes, not {inner!r:.80}")
        return Combined(name, tuple(read_tree(one, depth=depth + 1) for one in inner))
    if name == "not":
        return Combined(name, (read_tree(inner, depth=depth + 1),))
    if name == "held":
        return _held(inner, depth)
    return _leaf(name, inner)


def _held(inner: Any, depth: int) -> Held:
    problem = SettingsError(f'{SETTING}: "held" needs "minutes" (above 0) and "of", not {inner!r:.80}')
    if not isinstance(inner, Mapping) or set(inner) != {"minutes", "of"}:
        raise problem
    minutes = inner["minutes"]
    if isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or not 0 < minutes <= MAX_MINUTES:
        raise problem
    return Held(float(minutes), read_tree(inner["of"], depth=depth + 1))


def _leaf(name: str, parameters: Any) -> Leaf:
    kind = TRIGGERS.find(name)
    if not isinstance(parameters, Mapping):
        raise SettingsError(f"{SETTING}: the parameters of {name!r} are a mapping, not {parameters!r:.80}")
    try:
        return Leaf(name, kind(**parameters))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, (name, *first["loc"])))
        raise SettingsError(f"{SETTING}: {place}: {first['msg']}") from error
    except InvalidInput as error:
        raise SettingsError(f"{SETTING}: {name}: {error}") from error


def _children(
    nodes: Sequence[Node], situation: Situation, before: ConditionResult | None
) -> tuple[ConditionResult, ...]:
    """The results of nodes. An earlier result counts if the tree has not changed there."""
    earlier = before.children if before is not None else ()
    same = len(earlier) == len(nodes)
    return tuple(node.evaluate(situation, earlier[at] if same else None) for at, node in enumerate(nodes))


def _label(result: ConditionResult) -> str:
    """The name of a leaf; of `any`, the names of the leaves below it."""
    if result.name != "any":
        return result.name
    return " or ".join(dict.fromkeys(leaf.name for leaf in result.leaves()))


def _result(
    name: str,
    holds: bool,
    why: str,
    situation: Situation,
    before: ConditionResult | None,
    children: tuple[ConditionResult, ...] = (),
) -> ConditionResult:
    continues = before is not None and before.name == name and before.holds
    since = before.since if before is not None and continues else situation.now
    return ConditionResult(name=name, holds=holds, why=why, since=since if holds else None, children=children)
