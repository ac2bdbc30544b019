"""Loads settings from files, the environment and overrides."""

from __future__ import annotations

import configparser
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confection import Config
from pydantic import ValidationError

from karen_learner.errors import SettingsError
from karen_learner.settings.section import describe, refuse_unknown
from karen_learner.settings.sections import Settings

ENVIRONMENT_PREFIX = "KAREN_"
_SECTION = re.compile(r"^\[([^\]\s]+)\]", re.MULTILINE)


def shipped_configs() -> Path:
    """The folder `configs/`: next to the package in a checkout, inside it when installed."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def load_settings(
    path: str | Path | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from all layers.

    `overrides` maps sections to mappings, or dotted names (`"learning.quality_threshold"`) to values. Raises
    SettingsError for an unreadable file, a value out of bounds and an unknown or removed key. The message
    names the nearest known key, or the successor of a removed one.
    """
    values = _read(shipped_configs() / "default.cfg")
    known = {section: set(keys) for section, keys in values.items()}
    layers = [
        ("the settings file", _read(Path(path)) if path else {}),
        ("the environment", _from_environment(os.environ if environment is None else environment)),
        ("the overrides", _nested(overrides or {})),
    ]
    for origin, layer in layers:
        _merge(values, layer, known, origin)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(describe("the settings", error)) from error


def as_settings(
    settings: Settings | Path | str | None, *, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Loaded settings, or those of a file, with `overrides`. Raises SettingsError."""
    if not isinstance(settings, Settings):
        return load_settings(settings, overrides=overrides)
    if not overrides:
        return settings
    values = settings.model_dump()
    for section, changes in _nested(overrides).items():
        values[section] = {**values.get(section, {}), **changes}
    return load_settings(overrides=values)


def _read(path: Path) -> dict[str, Any]:
    parents: list[str] = []
    try:
        text = path.read_text(encoding="utf-8-sig")
        parents = _missing_parents(text)
        return dict(Config().from_str("".join(parents) + text, interpolate=True))
    except (OSError, ValueError, configparser.Error) as error:
        problem = _unreadable(error, added_lines=len(parents))
        raise SettingsError(f"cannot read the settings file {path}: {problem}") from error


def _missing_parents(text: str) -> list[str]:
    """A line `[a]` for each section `[a.b]` without the section `[a]`, which confection needs."""
    sections = set(_SECTION.findall(text))
    parents = {name[:at] for name in sections for at in range(len(name)) if name[at] == "."}
    return [f"[{parent}]\n" for parent in sorted(parents - sections)]


def _unreadable(error: Exception, *, added_lines: int) -> str:
    """The problem in one line, with its line of the file and the remedy."""
    if isinstance(error, configparser.DuplicateSectionError):
        line = (error.lineno or 0) - added_lines
        return (
            f"line {line}: the section [{error.section}] is there already: move the settings below this line "
            "to the first one, and delete this line"
        )
    if isinstance(error, configparser.DuplicateOptionError):
        line = (error.lineno or 0) - added_lines
        return f"line {line}: [{error.section}] has {error.option!r} already: delete one of the two"
    message = " ".join(str(error).replace("'<string>'", "").split())
    if "no section headers" in message:
        return f"a setting stands before the first [section] line: add the line above it ({message})"
    return message


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    overrides = {}
    for name, raw in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name:
            section, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__", 1)
            overrides[f"{section}.{key}"] = parse_value(raw)
    return _nested(overrides)


def parse_value(raw: str) -> Any:
    """The value of a JSON text; other texts unchanged."""
    try:
        return json.loads(raw)
    except ValueError:
        return raw


def _nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in overrides.items():
        section, _, key = name.partition(".")
        if key:
            nested.setdefault(section, {})[key] = value
        elif isinstance(value, Mapping):
            nested.setdefault(section, {}).update(value)
        else:
            raise SettingsError(f"the override {name!r} is no setting: write 'section.key'")
    return nested


def _merge(
    values: dict[str, Any], layer: Mapping[str, Any], known: Mapping[str, set[str]], origin: str
) -> None:
    refuse_unknown(origin, layer, set(known))
    for section, keys in layer.items():
        if not isinstance(keys, Mapping):
            raise SettingsError(f"[{section}] in {origin} is not a section of settings")
        keys = dict(keys)
        if section == "learning" and "validation_threshold" in keys:
            values["thresholds"]["accuracy"] = keys.pop("validation_threshold")
        refuse_unknown(f"[{section}] in {origin}", keys, known[section])
        values[section] = {**values[section], **keys}
