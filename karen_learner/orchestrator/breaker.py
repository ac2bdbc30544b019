"""`CircuitBreaker`: no calls while a run of failures is improbable under the measured failure rate."""

from __future__ import annotations

import time
from collections.abc import Callable

PRIOR_FAILURES, PRIOR_CALLS = 1.0, 11.0
"""Before any measurement one of eleven calls fails: three failures in a row open the breaker."""
HALF_LIFE_CALLS = 1_000.0
IMPROBABLE = 1e-3
"""The breaker opens if the measured rate makes a run of failures less probable than this."""
FIRST_WAIT_S, MAX_WAIT_S = 1.0, 60.0


class CircuitBreaker:
    """Open after an improbable run of failures: `allows` is then False, but for one trial after each wait.

    The failure rate is that of the calls before the run, discounted by their number. At a rate of 1 % two
    failures in a row open the breaker, at 50 % ten. The wait doubles with each failed trial, from 1 to 60
    seconds. Late failures of calls that began before it opened change nothing. A success closes the breaker.
    The pattern is of Nygard, *Release It!*, 2007.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = self._calls = 0.0
        self._run = self._trials = 0
        self._wait_s = FIRST_WAIT_S
        self._trial_at: float | None = None

    @property
    def failure_rate(self) -> float:
        """The measured share of failures, without the present run."""
        return (self._failures + PRIOR_FAILURES) / (self._calls + PRIOR_CALLS)

    @property
    def is_open(self) -> bool:
        return self._trial_at is not None

    def allows(self) -> bool:
        """Whether a call may begin. While the breaker is open: the trial, once in each wait."""
        if self._trial_at is None:
            return True
        if self._clock() < self._trial_at:
            return False
        self._trials += 1
        self._trial_at = self._clock() + self._wait_s
        return True

    def record(self, success: bool) -> None:
        """Count the end of a call."""
        if not success:
            if self._trial_at is not None:
                if not self._trials:
                    return
                self._trials -= 1
                self._wait_s = min(MAX_WAIT_S, 2.0 * self._wait_s)
            self._run += 1
            if self.failure_rate**self._run <= IMPROBABLE:
                self._trial_at = self._clock() + self._wait_s
            return
        decay = 0.5 ** ((self._run + 1) / HALF_LIFE_CALLS)
        self._calls = decay * self._calls + self._run + 1
        self._failures = decay * self._failures + self._run
        self._run, self._trials, self._wait_s, self._trial_at = 0, 0, FIRST_WAIT_S, None
