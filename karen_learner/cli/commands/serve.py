"""`serve`: the learner as an HTTP service."""

from __future__ import annotations

from typing import Annotated

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import option, run_coroutine, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
def serve(
    run: Context,
    host: Annotated[
        str | None, option("ADDRESS", "Address to listen on. Others than this machine's need API keys.")
    ] = None,
    port: Annotated[int | None, option("N", "Port to listen on. Default: 8000.", min=0, max=65_535)] = None,
    workers: Annotated[int | None, option("N", "Number of processes that answer. Default: 1.", min=1)] = None,
) -> int:
    """Answer HTTP requests on this home until Ctrl-C or SIGTERM. Needs the extra `service`."""
    try:
        from karen_learner.service.server import require_keys_or_loopback
        from karen_learner.service.server import serve as serve_home
    except ModuleNotFoundError as error:
        raise typer.BadParameter(str(error)) from error
    given = {"service.host": host, "service.port": port, "service.workers": workers}
    run.overrides.update({name: value for name, value in given.items() if value is not None})
    settings = run.settings()
    run.require_home(settings)
    run_coroutine(require_keys_or_loopback(run.home, settings))
    address = f"http://{settings.service.host}:{settings.service.port}"
    run.output.note(f"{address}/dashboard is the dashboard; {address}/openapi.json describes the service")
    serve_home(run.home, settings)
    return ExitCode.OK
