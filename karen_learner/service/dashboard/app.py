"""Adds the pages, the static files and the stream of the dashboard to an application."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import RedirectResponse

from karen_learner.service.dashboard import frame, live, sessions
from karen_learner.service.dashboard.pages import PREFIX, static_files
from karen_learner.service.dashboard.views import (
    audit,
    cycles,
    data,
    improvements,
    incidents,
    quality,
    review,
    strategies,
    tickets,
    topics,
    versions,
    week,
    why,
)

VIEWS = (
    quality,
    cycles,
    versions,
    why,
    incidents,
    review,
    topics,
    strategies,
    data,
    improvements,
    tickets,
    week,
    audit,
)
PARTS = (live, sessions, *VIEWS, frame)
"""The last one answers all other addresses."""


def add_dashboard(app: FastAPI) -> None:
    """Serve the dashboard below `/dashboard`. It needs the `parts` in the state of the application."""
    app.mount(f"{PREFIX}/static", static_files(), name="static")
    for part in PARTS:
        app.include_router(part.router)

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse(PREFIX, status_code=303)
