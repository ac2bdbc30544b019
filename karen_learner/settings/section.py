"""`Section`: a group of settings, and the errors of unknown, removed and impossible settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from karen_learner.errors import SettingsError

_NO_DEV_SPLIT = "delete it, because all examples are learned and shadows judge them"
_NO_MARGIN = "delete it, because the gates test at a significance level; gate.gates names the gates"
_OUT_OF_FOLD = "delete it, because all scores are out of fold"
REMOVED = {
    "holdout_cap": "use gate.judged_texts, the maximum number of judged gold texts",
    "dev_share": _NO_DEV_SPLIT,
    "dev_cap": _NO_DEV_SPLIT,
    "unlabelled_turns": "delete it, because texts without feedback are not learned",
    "patience": "delete it, because a training makes all its passes; training.n_iter is their number",
    "margin_standard_errors": _NO_MARGIN,
    "min_margin": _NO_MARGIN,
    "max_margin": _NO_MARGIN,
    "small_holdout": _OUT_OF_FOLD,
    "max_cross_validated": _OUT_OF_FOLD,
}
"""Settings of earlier releases, with advice."""
HINTS = {
    "validation_split": "it is 1 / K for K folds, no longer the share of a holdout; 0.2 gives five folds"
}
"""Explanations of settings whose meaning changed."""
SECRET_SECTIONS = frozenset({"notifications", "targets", "WebhookTarget", "EmailTarget"})
"""Errors about these settings do not quote values."""


class Section(BaseModel):
    """A group of settings with validated assignment.

    Of each pair in `ordered`, the first setting is at most the second one.
    """

    ordered: ClassVar[tuple[tuple[str, str], ...]] = ()

    model_config = ConfigDict(
        extra="forbid",
        validate_assignment=True,
        protected_namespaces=(),
        hide_input_in_errors=True,
        defer_build=True,
    )

    def update(self, values: Mapping[str, Any]) -> None:
        """Change several settings: all of them, or none if a value is not allowed."""
        refuse_unknown(type(self).__name__, values, self._names())
        fields = type(self).model_fields
        given = {name: value for name, value in values.items() if name in fields}
        try:
            valid = type(self).model_validate({**{name: getattr(self, name) for name in fields}, **given})
        except ValidationError as error:
            raise SettingsError(describe(type(self).__name__, error)) from error
        for name in values.keys() - given.keys():
            setattr(self, name, values[name])
        self.__dict__.update({name: getattr(valid, name) for name in given})

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        for low, high in self.ordered:
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} {getattr(self, low):g} is above {high} {getattr(self, high):g}")
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if name in REMOVED:
            refuse_unknown(type(self).__name__, (name,), self._names())
        before = dict(self.__dict__)
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            self.__dict__.update(before)  # a check of the whole section comes after the assignment
            raise SettingsError(describe(type(self).__name__, error)) from error

    def _names(self) -> set[str]:
        return set(type(self).model_fields)


def refuse_unknown(where: str, given: Iterable[str], known: set[str]) -> None:
    for name in given:
        if name in known:
            continue
        if name in REMOVED:
            raise SettingsError(f"the setting {name!r} in {where} was removed: {REMOVED[name]}")
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        raise SettingsError(f"unknown setting {name!r} in {where}: did you mean {near[0]!r}?")


def describe(where: str, error: ValidationError) -> str:
    problems = []
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        hint = HINTS.get(path[-1]) if path else None
        is_hidden = not path or SECRET_SECTIONS.intersection((where, *path))
        given = "" if is_hidden else f" (got {item['input']!r})"
        problem = f"{'.'.join(path) or where}: {item['msg']}{given}"
        problems.append(f"{problem}: {hint}" if hint else problem)
    return f"{where}: {'; '.join(problems)}"
