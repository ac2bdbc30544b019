"""Runs the application in one or several processes."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from karen_learner.errors import InvalidInput
from karen_learner.learner import AutonomousLearner
from karen_learner.memory import open_store
from karen_learner.models.files import HomeLayout
from karen_learner.service.access import Access, is_local
from karen_learner.service.app import create_app
from karen_learner.settings import Settings, as_settings

HOME_AND_SETTINGS = "KAREN_SERVICE_LEARNER"
"""Environment variable that hands the home and the settings to the processes of the service."""
GRACE_S = 30
"""Seconds in which open requests may end after a signal to stop."""


def application() -> FastAPI:
    """The application of a process of the service."""
    given = json.loads(os.environ[HOME_AND_SETTINGS])
    learner = AutonomousLearner(given["home"], settings=as_settings(None, overrides=given["settings"]))
    app = create_app(learner)
    gc.collect()
    gc.freeze()  # exempts loaded modules from collections, which would delay all requests by 0.14 s of CPU
    return app


async def require_keys_or_loopback(home: Path, settings: Settings) -> None:
    """Raises InvalidInput if the address is not this machine's own and the store has no API key."""
    host = settings.service.host
    if is_local(host):
        return
    store = open_store(settings.store.url or HomeLayout(home, settings.paths).database, settings.store)
    async with store:
        if not await Access(store).has_keys():
            raise InvalidInput(
                f"{host} can be reached from other machines, and there is no API key: make one with "
                "`karen-learner keys create NAME`, or listen on 127.0.0.1"
            )


def serve(home: Path, settings: Settings) -> None:
    """Answer requests until SIGINT or SIGTERM. A running cycle is journalled as failed."""
    os.environ[HOME_AND_SETTINGS] = json.dumps({"home": str(home.absolute()), "settings": settings.dump()})
    uvicorn.run(
        "karen_learner.service.server:application",
        factory=True,
        host=settings.service.host,
        port=settings.service.port,
        workers=settings.service.workers,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        log_config=None,
    )
