"""`keys`: API keys of the HTTP service are listed, created and revoked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import argument, option, with_common_options
from karen_learner.errors import ExitCode, InvalidInput

if TYPE_CHECKING:
    from karen_learner.contracts import AccessStore
    from karen_learner.records.access import ApiKey

Action = Literal["list", "create", "revoke"]
RoleName = Literal["reader", "host", "operator", "admin"]


@with_common_options
async def keys(
    run: Context,
    action: Annotated[Action, argument("ACTION", "list, create or revoke.")],
    name: Annotated[str | None, argument("NAME", "create: a name for people; revoke: id of the key.")] = None,
    role: Annotated[
        RoleName,
        option(
            "ROLE",
            "reader: reports; host: also turns and analyses; operator: reports and changes; admin: all.",
            show_default=True,
        ),
    ] = "reader",
    tenant: Annotated[
        list[str] | None, option("TENANT", "Tenant of the key. Repeatable. Default: all.")
    ] = None,
) -> int:
    """List, create or revoke the API keys of `serve`. A new key is shown once."""
    if (name is None) != (action == "list"):
        raise typer.BadParameter("list needs no NAME" if action == "list" else f"{action} needs NAME")
    async with _store(run, create=action == "create") as store:
        if action == "create":
            await _create(run, store, str(name), role, tenant or [])
        elif action == "revoke":
            await _revoke(run, store, str(name))
        else:
            _show(run, await store.api_keys())
    return ExitCode.OK


@asynccontextmanager
async def _store(run: Context, *, create: bool) -> AsyncIterator[AccessStore]:
    from karen_learner.memory import open_store
    from karen_learner.models.files import HomeLayout

    settings = run.settings()
    if not create:
        run.require_home(settings)
    place = settings.store.url or HomeLayout(run.home, settings.paths).database
    async with open_store(place, settings.store, read_only=run.read_only) as store:
        yield store


async def _create(run: Context, store: AccessStore, name: str, role: RoleName, tenants: list[str]) -> None:
    from karen_learner.service.access import new_key

    key, secret = new_key(name, role, tenants)
    await store.add_api_key(key)
    document = {**_document(key), "key": secret}
    run.output.result(document, f"{secret}", f"key {key.key_id} with the role {role}: it is not shown again")


async def _revoke(run: Context, store: AccessStore, key_id: str) -> None:
    from karen_learner.records import utc_now

    if not await store.revoke_api_key(key_id, at=utc_now()):
        raise InvalidInput(f"there is no valid key {key_id!r}: see `karen-learner keys list`")
    run.output.result({"key_id": key_id, "revoked": True}, f"key {key_id} is revoked")


def _show(run: Context, listed: Sequence[ApiKey]) -> None:
    from karen_learner.cli.tables import FittingTable, minute_text

    rows = [
        {
            "id": key.key_id,
            "name": key.name,
            "role": key.role,
            "tenants": ", ".join(key.tenants) or "all",
            "created": minute_text(key.created_at),
            "revoked": minute_text(key.revoked_at) if key.revoked_at else None,
        }
        for key in listed
    ]
    shown = FittingTable(rows, folded="tenants") if rows else "no keys"
    run.output.result([_document(key) for key in listed], shown)


def _document(key: ApiKey) -> dict[str, object]:
    return {name: value for name, value in key.to_dict().items() if name != "digest"}
