"""`SpooledCollection`: turns and feedback are spooled at once, and stored in the background."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from asyncio_extras import call_in_executor
from cachetools import LRUCache

from karen_learner.collection.turns import FeedbackInput, TurnDraft, check_spans, parse_feedback
from karen_learner.contracts import CollectingLearner
from karen_learner.errors import InvalidInput, KarenLearnerError, LearnerClosed, StoreError, without_message
from karen_learner.memory.spool import Entry, Spool
from karen_learner.records import Analysis

logger = logging.getLogger(__name__)

BATCH = 32
"""Entries that are stored together. Larger batches delay the analyses of new messages."""
RETRY_S, MAX_RETRY_S = 0.2, 30.0
CLOSE_TIMEOUT_S = 10.0
MAX_ANALYSES = 10_000
"""Analyses of spooled turns in memory. Turns without one are analysed again."""


class SpooledCollection:
    """Spools turns and feedback, and lets a learner store them, in order.

    A turn that was spooled twice, or stored before a crash, is stored once: its id is the idempotency key.
    Errors of the store are retried. An entry that the learner refuses is set aside and logged.
    """

    def __init__(self, learner: CollectingLearner, folder: Path, **bounds: Any) -> None:
        self._learner = learner
        self.spool = Spool(folder, **bounds)
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._analyses: LRUCache[tuple[str, str], Analysis] = LRUCache(MAX_ANALYSES)
        self._erased: set[tuple[str, str]] = set()
        self.stored = 0
        self.refused = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the spool, and store the entries of ended processes in the background. Raises StoreError."""
        if self._task is None and not self._closing:
            await self.spool.open()
            self._idle.clear()
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(lambda _: self._idle.set())

    async def put_turn(self, draft: TurnDraft, analysis: Analysis | None = None) -> bool:
        """Spool a turn; whether it was committed. Cheap: nothing is analysed.

        This process stores a present `analysis` with the turn. The next one analyses the text again.
        """
        if analysis is not None:
            self._analyses[draft.key] = analysis
        return await self._put(json.dumps(_values(draft)))

    async def put_turns(self, drafts: Sequence[TurnDraft]) -> bool:
        """Spool turns with their feedback in one transaction; whether it was committed."""
        bodies = await call_in_executor(lambda: [json.dumps(_values(draft)) for draft in drafts])
        return await self._put(*bodies)

    async def waiting_text(self, tenant_id: str, turn_id: str) -> str | None:
        """The user's text of a turn that waits; None if it does not. Raises StoreError."""
        if not self.spool.waiting:
            return None
        found = await self.spool.find(tenant_id=tenant_id, turn_id=turn_id)
        return None if found is None else json.loads(found).get("user_text")

    async def put_feedback(
        self,
        tenant_id: str,
        turn_id: str,
        feedback: FeedbackInput,
        *,
        user_text: str | None = None,
    ) -> bool:
        """Spool feedback on a spooled turn; whether it was committed.

        Raises InvalidInput for unusable feedback. With the text, corrected entities are checked, too.
        """
        parsed = parse_feedback(feedback, user_text)
        if parsed is None:
            raise InvalidInput("feedback must be a mapping or a UserFeedback, not None")
        if user_text is not None:
            check_spans(parsed, user_text)
        values = parsed.model_dump(mode="json", exclude_unset=True)
        entry = {"tenant_id": tenant_id, "turn_id": turn_id, "feedback": values}
        return await self._put(json.dumps(entry))

    async def _put(self, *bodies: str) -> bool:
        self._idle.clear()
        is_committed = await self.spool.put(bodies)
        self._more.set()
        return is_committed

    async def drain(self) -> None:
        """Wait until all present entries are stored or set aside."""
        await self._idle.wait()

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Store the waiting entries for at most `timeout_s` seconds. Others wait for the next process."""
        self._closing = True
        self._more.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.spool.close()

    async def _run(self) -> None:
        after, retry_s = 0, RETRY_S
        while True:
            self._more.clear()
            try:
                entries = await self.spool.next(after=after, limit=BATCH)
                after = await self._process(entries, after)
            except StoreError as error:
                if not await self._wait_after(error, retry_s):
                    return
                retry_s = min(MAX_RETRY_S, 2.0 * retry_s)
                continue
            except LearnerClosed:
                return
            retry_s = RETRY_S
            if not entries:
                if self._closing:
                    return
                await self.spool.count()
                if self.spool.waiting <= self.refused:
                    self._idle.set()
                await self._more.wait()

    async def _wait_after(self, error: StoreError, retry_s: float) -> bool:
        """Whether to try again, after a wait."""
        if self._closing:
            return False
        logger.warning("spooled turns cannot be stored, trying again in %g s: %s", retry_s, error)
        await asyncio.sleep(retry_s)
        return True

    async def _process(self, entries: Sequence[Entry], after: int) -> int:
        """Store entries; the number of the last one. Turns are stored together, then their feedback.

        Raises the first StoreError; the entries that are stored by then are removed.
        """
        values: dict[Entry, dict[str, Any]] = {}
        for entry in entries:
            try:
                values[entry] = dict(json.loads(entry.body))
            except (ValueError, TypeError) as error:  # another program wrote it
                await self._finish({entry: error})
        for has_feedback in (False, True):
            chosen = [entry for entry in values if ("feedback" in values[entry]) is has_feedback]
            outcomes = await asyncio.gather(
                *(self._store(values[entry]) for entry in chosen), return_exceptions=True
            )
            found = dict(zip(chosen, outcomes, strict=True))
            await self._finish(found)
            for outcome in outcomes:
                if isinstance(outcome, (StoreError, LearnerClosed, asyncio.CancelledError)):
                    raise outcome
        return entries[-1].seq if entries else after

    async def _finish(self, outcomes: Mapping[Entry, BaseException | None]) -> None:
        """Remove stored entries, and set refused ones aside. Erase users who were erased in the meantime."""
        done = [entry for entry, outcome in outcomes.items() if outcome is None]
        erased = [json.loads(entry.body) for entry in await self.spool.remove(done)]
        self._erased.update((one["tenant_id"], one["user_id"]) for one in erased if "user_id" in one)
        self.stored += len(done)
        for entry, error in outcomes.items():
            if isinstance(error, Exception) and not isinstance(error, (StoreError, LearnerClosed)):
                self.refused += 1
                logger.error("a spooled entry is set aside: %s", type(error).__name__)
                problem = str(error) if isinstance(error, KarenLearnerError) else without_message(error)
                await self.spool.set_aside(entry, problem)
        for tenant_id, user_id in tuple(self._erased):
            await self._learner.erase_user(tenant_id, user_id)
            self._erased.remove((tenant_id, user_id))

    async def _store(self, values: dict[str, Any]) -> None:
        if "feedback" in values:
            await self._learner.add_feedback(**values)
        else:
            occurred_at = datetime.fromisoformat(values.pop("occurred_at"))
            analysis = self._analyses.pop((values["tenant_id"], values["turn_id"]), None)
            await self._learner.collect_conversation_metadata(
                **values, occurred_at=occurred_at, analysis=analysis
            )


def _values(draft: TurnDraft) -> dict[str, Any]:
    """The entry of a turn: arguments of `collect_conversation_metadata` as JSON types."""
    values: dict[str, Any] = {
        "tenant_id": draft.tenant_id,
        "user_text": draft.user_text,
        "assistant_response": draft.assistant_response,
        "user_id": draft.user_id,
        "conversation_id": draft.conversation_id,
        "turn_id": draft.turn_id,
        "occurred_at": draft.occurred_at.isoformat(),
    }
    if draft.feedback is not None:
        values["user_feedback"] = draft.feedback.model_dump(mode="json", exclude_unset=True)
    return values
