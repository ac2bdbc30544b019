"""Objects by name, from this package and from others."""

from importlib.metadata import EntryPoint

import pytest

from karen_learner import registry
from karen_learner.errors import SettingsError
from karen_learner.registry import Registry

GROUP = "karen_learner_shapes"


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> Registry[object]:
    offered = [
        EntryPoint("round", "math:sqrt", GROUP),
        EntryPoint("flat", "math:floor", GROUP),
        EntryPoint("flat", "math:ceil", GROUP),
        EntryPoint("long", "math:pi", GROUP),
        EntryPoint("own", "math:pi", GROUP),
        EntryPoint("round", "math:sqrt", GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: offered if group == GROUP else [])
    return Registry("shape", GROUP, {"own": len}, setting="shapes.names")


def test_own_names_need_no_metadata_of_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(registry, "entry_points")
    assert Registry("shape", GROUP, {"own": len}).find_all(["own"]) == {"own": len}


def test_own_names_take_precedence(shapes: Registry[object]) -> None:
    assert shapes.find("own") is len
    assert shapes.names() == ("own", "round", "flat", "long")
    assert "round" in shapes
    assert "square" not in shapes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rond", r"unknown shape 'rond' in the setting shapes.names: did you mean 'round'"),
        ("zzz", r"unknown shape 'zzz'.*known are flat, long, own, round"),
        ("flat", r"several packages add the shape 'flat': math:ceil, math:floor"),
        ("long", r"the shape 'long' \(math:pi\) is no function"),
    ],
)
def test_a_useless_name_is_an_error(shapes: Registry[object], name: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        shapes.find(name)
