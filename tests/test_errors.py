"""The tree of exceptions is the one that is drawn."""

import re
from pathlib import Path

import pytest

from karen_learner import errors
from karen_learner.errors import KarenLearnerError


def drawn() -> dict[str, tuple[str, str | None]]:
    """Each name of the drawing with its parent and the built-in exception in brackets."""
    tree: dict[str, tuple[str, str | None]] = {}
    above = ["KarenLearnerError"]
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^ {4}((?:│   |    )*)[├└]── (\w+)(?: \((\w+)\))?", line)
        if found:
            depth = len(found[1]) // 4 + 1
            del above[depth:]
            tree[found[2]] = (above[-1], found[3])
            above.append(found[2])
    return tree


def defined() -> dict[str, type[KarenLearnerError]]:
    return {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, KarenLearnerError) and kind is not KarenLearnerError
    }


def test_the_tree_drawn_is_the_tree_that_is() -> None:
    real = {
        name: (kind.__bases__[0].__name__, kind.__bases__[1].__name__ if len(kind.__bases__) > 1 else None)
        for name, kind in defined().items()
    }
    assert drawn() == real


@pytest.mark.parametrize("kind", defined().values(), ids=defined())
def test_every_error_says_what_it_is_and_carries_a_backup_path(kind: type[KarenLearnerError]) -> None:
    assert kind.__doc__
    assert "\n" not in kind.__doc__.strip()
    error = kind("what, where, what to do")
    assert str(error) == "what, where, what to do"
    assert error.backup_path is None
    error.backup_path = Path("somewhere")
    assert KarenLearnerError.backup_path is None
