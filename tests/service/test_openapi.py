"""Requests that schemathesis makes from the description of the service: none ends in a server error.

A longer run by hand: `KAREN_SCHEMATHESIS_EXAMPLES=200 pytest tests/service/test_openapi.py`.
"""

from __future__ import annotations

import asyncio
import os

import httpx
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from karen_learner.service import create_app
from tests.conftest import ACME, MakeLearner
from tests.service.conftest import BASE_URL

EXAMPLES = int(os.environ.get("KAREN_SCHEMATHESIS_EXAMPLES", "4"))
SERVER_ERRORS = {503, 507}
"""The service stops, or the disk is full: answers to no fault of the client, but told on purpose."""
STREAM = "/events"


def prepared(case: Case) -> httpx.Request:
    """The request of a case, for the tenant of the home."""
    if "tenant_id" in case.path_parameters:
        case.path_parameters["tenant_id"] = ACME
    made = requests.Request(**case.as_transport_kwargs(base_url=BASE_URL)).prepare()
    headers = {name: value for name, value in made.headers.items() if name.lower() != "content-length"}
    return httpx.Request(made.method or "GET", made.url or "", headers=headers, content=made.body or b"")


def test_no_request_ends_in_a_server_error(make_learner: MakeLearner):
    app = create_app(make_learner())
    schema = schemathesis.openapi.from_dict(app.openapi())
    operations = [one.ok() for one in schema.get_all_operations()]
    failures: list[str] = []
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url=BASE_URL)
        for operation in operations:
            if operation.path.endswith(STREAM):
                continue
            cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))

            @settings(
                max_examples=EXAMPLES,
                database=None,
                derandomize=True,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=cases)
            def check(case: Case) -> None:
                request = prepared(case)
                response = runner.run(client.send(request))
                if response.status_code >= 500 and response.status_code not in SERVER_ERRORS:
                    failures.append(
                        f"{request.method} {request.url} {request.content!r:.300} {response.text}"
                    )

            check()
        runner.run(client.aclose())
        runner.run(lifespan.__aexit__(None, None, None))
    assert not failures, failures
