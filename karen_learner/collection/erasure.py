"""Erasure of a user from the store, in small transactions. Another erasure completes an interrupted one."""

from __future__ import annotations

from karen_learner.contracts import MemoryStore
from karen_learner.records import new_id
from karen_learner.records.erasure import PersonalRows

PAGE = 100
"""Labels and turns of one transaction, which takes some tens of milliseconds."""
ALIAS = "erased-"
"""Prefix of the random user id that erased turns get. Nothing stores the former id beside it."""


async def erase_rows(store: MemoryStore, tenant_id: str, user_id: str) -> PersonalRows:
    """Erase all rows of a user; their number."""
    alias, erased = f"{ALIAS}{new_id()}", PersonalRows()
    while True:
        page = await store.erase_page(tenant_id, user_id, alias=alias, limit=PAGE)
        erased = PersonalRows(**{name: getattr(erased, name) + value for name, value in page})
        if page.labels < PAGE and page.turns < PAGE:
            await store.empty_log()
            return erased
