"""Pages: templates, their filters and headers, and errors as pages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from karen_learner.errors import InvalidInput, KarenLearnerError, TooManyRequests, Unauthenticated
from karen_learner.records.access import Action
from karen_learner.service.access import Caller
from karen_learner.service.dashboard import formats
from karen_learner.service.problems import problem_of

PREFIX = "/dashboard"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",  # without a referrer, browsers send the origin "null" with forms
    "Cross-Origin-Opener-Policy": "same-origin",
}
MAX_FIELDS = 200


@dataclass(frozen=True)
class Tab:
    """An entry of the navigation: the name of its page in the address, its title and the needed right."""

    page: str
    title: str
    action: Action = "read"


TABS = (
    Tab("quality", "Quality"),
    Tab("cycles", "Cycles"),
    Tab("versions", "Versions"),
    Tab("why", "Why, or why not"),
    Tab("incidents", "Incidents"),
    Tab("review", "Review", "operate"),
    Tab("topics", "Topics"),
    Tab("strategies", "Strategies and costs"),
    Tab("data", "Data and people"),
    Tab("improvements", "Improvements"),
    Tab("week", "This week"),
    Tab("audit", "Audit", "administer"),
)


def link(tenant_id: str, *parts: str, **query: Any) -> str:
    """The address of a page of a tenant."""
    path = "/".join(quote(one, safe="") for one in (tenant_id, *parts))
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{PREFIX}/tenants/{path}" + (f"?{urlencode(given)}" if given else "")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("karen_learner.service.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(formats.FILTERS)
    made.globals.update(link=link, prefix=PREFIX, asset=asset)
    return made


@cache
def asset(name: str) -> str:
    """The address of a static file. It changes with the content, so that browsers may keep the file."""
    content = files("karen_learner.service.dashboard").joinpath("static", name).read_bytes()
    return f"{PREFIX}/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"


class _Static(StaticFiles):
    def file_response(
        self, full_path: Any, stat_result: Any, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def static_files() -> StaticFiles:
    """The style sheets and scripts."""
    return _Static(directory=Path(__file__).parent / "static")


def page(request: Request, template: str, /, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A rendered template. Blocking work is not allowed: `values` are plain records."""
    caller: Caller | None = getattr(request.state, "caller", None)
    content = (
        _environment()
        .get_template(template)
        .render(
            request=request,
            path=request.url.path,
            tabs=TABS,
            may=lambda action: (
                caller is not None and caller.may(action, request.path_params.get("tenant_id"))
            ),
            caller=caller,
            **values,
        )
    )
    return HTMLResponse(content, status_code=status, headers=HEADERS)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a sent form; of several with one name, the last one. Raises InvalidInput."""
    body = await request.body()
    try:
        fields = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError as error:  # broken UTF-8, or too many fields
        raise InvalidInput(f"the form cannot be read: {error}") from error
    return dict(fields)


def seen_other(address: str) -> RedirectResponse:
    """The answer to a sent form: the browser shows this page."""
    return RedirectResponse(address, status_code=303, headers=HEADERS)


class PageRoute(APIRoute):
    """A route whose errors are pages. A caller without a session is sent to the login."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def with_errors(request: Request) -> Response:
            try:
                return await answer(request)
            except Unauthenticated:
                return _to_login(request)
            except RequestValidationError:
                return _error(request, 404, "There is no such page", "An address or a number is not valid.")
            except Exception as error:
                return _of(request, error)

        return with_errors


def _to_login(request: Request) -> Response:
    address = f"{PREFIX}/login"
    if request.method == "GET" and not is_fragment(request):
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return seen_other(f"{address}?{urlencode({'next': target})}")
    if is_fragment(request):
        return Response(status_code=401, headers={"HX-Redirect": address})
    return seen_other(address)


def is_fragment(request: Request) -> bool:
    """Whether a script of a page asks, to replace a part of the page."""
    return "hx-request" in request.headers


def _of(request: Request, error: Exception) -> Response:
    problem = problem_of(error)  # logs an unexpected error
    detail = str(error) if isinstance(error, KarenLearnerError) else "The log of the service describes it."
    titles = {
        403: "Your key may not do this",
        404: "Not found",
        429: "Too many requests",
        400: "Not possible",
    }
    response = _error(request, problem.status_code, titles.get(problem.status_code, "An error"), detail)
    if isinstance(error, TooManyRequests):
        response.headers["Retry-After"] = f"{max(1, round(error.retry_after_s))}"
    return response


def _error(request: Request, status: int, title: str, detail: str) -> Response:
    return page(request, "error.html", status=status, title=title, detail=detail)


def page_router() -> APIRouter:
    """A router of pages."""
    return APIRouter(prefix=PREFIX, route_class=PageRoute, include_in_schema=False)
