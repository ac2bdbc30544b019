"""The switch interval is short while at least one block runs, and is restored after the last one."""

import sys
import threading
from collections.abc import Iterator

import pytest

from karen_learner.concurrency import SWITCH_INTERVAL_S, ShortSwitchInterval


@pytest.fixture
def usual() -> Iterator[float]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.02)
    yield sys.getswitchinterval()
    sys.setswitchinterval(before)


def test_the_last_exit_restores_the_interval(usual: float) -> None:
    turns, entered, leave = ShortSwitchInterval(), threading.Event(), threading.Event()

    def other() -> None:
        with turns():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with turns():
        thread.start()
        entered.wait()
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S, abs=1e-5)
    leave.set()
    thread.join()
    assert sys.getswitchinterval() == usual


def test_an_error_restores_it_too(usual: float) -> None:
    with pytest.raises(RuntimeError), ShortSwitchInterval()():
        raise RuntimeError
    assert sys.getswitchinterval() == usual


def test_a_shorter_interval_is_unchanged(usual: float) -> None:
    sys.setswitchinterval(0.0001)
    with ShortSwitchInterval()():
        assert sys.getswitchinterval() == pytest.approx(0.0001, abs=1e-5)
