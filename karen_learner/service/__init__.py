"""The learner as an HTTP service. It needs the extra `service`."""

try:
    from karen_learner.service.app import create_app
except ModuleNotFoundError as error:
    if not (error.name or "").startswith(("fastapi", "starlette", "uvicorn", "prometheus_client", "jinja2")):
        raise
    raise ModuleNotFoundError(
        f"the service needs {error.name}: pip install 'karen-learner[service]'", name=error.name
    ) from error

__all__ = ["create_app"]
