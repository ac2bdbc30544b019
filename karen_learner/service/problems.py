"""Errors as problem details (RFC 9457). The status codes are those of the classes in `errors.py`."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from karen_learner.errors import KarenLearnerError, SpoolFull, TooManyRequests, Unauthenticated, trace_of
from karen_learner.records import new_id
from karen_learner.service.idempotency import Repeated

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS, MAX_DETAIL_CHARS = 100, 2_000
"""A body may have errors in 200,000 places, and a message may name them all."""
TYPE_PREFIX = "urn:karen-learner:problem:"
_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")


class Problem(BaseModel):
    """An error. `type` is stable for programs, `detail` is for people."""

    type: str = Field(examples=["urn:karen-learner:problem:unknown-tenant"])
    title: str = Field(examples=["Unknown tenant"])
    status: int = Field(examples=[404])
    detail: str
    errors: list[dict[str, Any]] | None = None


class ProblemResponse(JSONResponse):
    media_type = MEDIA_TYPE


def problem_response(
    kind: str, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> ProblemResponse:
    """The response of a problem. `kind` is its name in capitalised words, such as `UnknownTenant`."""
    words = _WORD_START.sub(" ", kind).lower()
    problem = Problem(
        type=TYPE_PREFIX + words.replace(" ", "-"),
        title=words.capitalize(),
        status=status,
        detail=detail if len(detail) <= MAX_DETAIL_CHARS else f"{detail[:MAX_DETAIL_CHARS]}…",
        **more,
    )
    content = problem.model_dump(mode="json", exclude_none=True)
    return ProblemResponse(content, status_code=status, headers=dict(headers or {}))


def problem_of(error: Exception) -> ProblemResponse:
    """The response of an error. The message of an unexpected error is logged and not sent."""
    if isinstance(error, KarenLearnerError):
        headers = {}
        if isinstance(error, Unauthenticated):
            headers["WWW-Authenticate"] = "Bearer"
        if isinstance(error, (TooManyRequests, SpoolFull)):
            headers["Retry-After"] = f"{max(1, round(error.retry_after_s))}"
        return problem_response(type(error).__name__, error.http_status, str(error), headers=headers)
    number = new_id()
    logger.error("request failed, error %s: %s", number, trace_of(error))
    return problem_response("InternalError", 500, f"an unexpected error: see the log, error {number}")


def as_problem(error: Exception) -> Problem:
    """The problem of one item of a request. See `problem_of`."""
    return Problem.model_validate_json(bytes(problem_of(error).body))


def add_handlers(app: FastAPI) -> None:
    """Answer all errors of an application with problem details."""

    async def of_error(_: Request, error: Exception) -> ProblemResponse:
        return problem_of(error)

    async def of_validation(_: Request, error: Exception) -> ProblemResponse:
        error = cast(RequestValidationError, error)
        found = [
            {"where": ".".join(map(str, one["loc"])), "message": one["msg"], "kind": one["type"]}
            for one in error.errors()[:MAX_ERRORS]
        ]  # without the values, which may be texts of users
        first = f"{found[0]['where']}: {found[0]['message']}" if found else "the request is not valid"
        return problem_response("InvalidRequest", 422, first, errors=found)

    async def of_status(_: Request, error: Exception) -> ProblemResponse:
        error = cast(HTTPException, error)
        phrase = HTTPStatus(error.status_code).phrase
        kind = "".join(word.capitalize() for word in re.findall(r"[A-Za-z]+", phrase))
        return problem_response(kind, error.status_code, str(error.detail), headers=error.headers)

    async def of_repetition(_: Request, repeated: Exception) -> Response:
        return cast(Repeated, repeated).response

    app.add_exception_handler(KarenLearnerError, of_error)
    app.add_exception_handler(Repeated, of_repetition)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_status)
