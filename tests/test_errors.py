"""The documented tree of exceptions, and the exit codes."""

import re
from pathlib import Path
from typing import get_args

import pytest

from karen_learner import errors
from karen_learner.errors import (
    STATUS_EXIT_CODES,
    ExitCode,
    InvalidInput,
    KarenLearnerError,
    SettingsError,
    trace_of,
    without_message,
)
from karen_learner.records import CycleStatus


def documented() -> dict[str, tuple[str, str | None]]:
    """Each documented name with its parent and the built-in exception in brackets."""
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


def test_the_documented_tree_is_the_real_one() -> None:
    real = {
        name: (kind.__bases__[0].__name__, kind.__bases__[1].__name__ if len(kind.__bases__) > 1 else None)
        for name, kind in defined().items()
    }
    assert documented() == real


@pytest.mark.parametrize("kind", defined().values(), ids=defined())
def test_every_error_has_a_description_and_carries_a_backup_path(kind: type[KarenLearnerError]) -> None:
    assert kind.__doc__
    assert "\n" not in kind.__doc__.strip()
    error = kind("what, where, what to do")
    assert str(error) == "what, where, what to do"
    assert error.backup_path is None
    error.backup_path = Path("somewhere")
    assert KarenLearnerError.backup_path is None


def test_every_cycle_status_and_every_error_has_an_exit_code() -> None:
    assert STATUS_EXIT_CODES.keys() == set(get_args(CycleStatus))
    assert {kind.exit_code for kind in defined().values()} == {ExitCode.ERROR, ExitCode.USAGE}
    assert (InvalidInput.exit_code, SettingsError.exit_code) == (ExitCode.ERROR, ExitCode.USAGE)


def test_the_message_of_an_unknown_error_is_left_out() -> None:
    assert without_message(KeyError("my secret")) == "KeyError: see the log"
    assert without_message(OSError(28, "No space left")) == "OSError: [Errno 28] No space left"


def test_a_trace_has_no_messages() -> None:
    secret = "secret".upper()
    try:
        try:
            raise KeyError(secret)
        except KeyError as cause:
            raise ValueError(secret) from cause
    except ValueError as error:
        trace = trace_of(error)
    assert trace.startswith("ValueError\n")
    assert "test_a_trace_has_no_messages" in trace
    assert secret not in trace
