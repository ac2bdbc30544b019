"""The orchestrator in an application of FastAPI or Starlette, as a dependency."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from karen_learner.errors import LearnerClosed
from karen_learner.orchestrator.middleware import Orchestrator


class OrchestratorDependency:
    """A dependency that gives the started orchestrator of an application.

    `make` is a function without arguments that returns an asynchronous context manager of an `Orchestrator`.
    Pass `lifespan` to the application, and the object to `fastapi.Depends`.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[Orchestrator]]) -> None:
        self._make = make
        self._started: Orchestrator | None = None

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Start the orchestrator with the application, and close it with it."""
        async with self._make() as self._started:
            try:
                yield
            finally:
                self._started = None

    async def __call__(self) -> Orchestrator:
        """Raises LearnerClosed if the lifespan of the application does not run."""
        if self._started is None:
            raise LearnerClosed(
                "pass `lifespan` of this dependency to the application: FastAPI(lifespan=...)"
            )
        return self._started
