"""`Orchestrator`: middleware around a host's LLM.

A message is analysed, the LLM answers with the analysis as context, and the turn is spooled. If the LLM fails
or is slow, a prepared answer by spaCy's analysis replies; if spaCy fails, one by the analysis of rules.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

from cachetools import LRUCache

from karen_learner.analysis.fallback import answer_without_model
from karen_learner.collection.turns import CharacterSanitizer, TurnDraft, draft_turn, parse_feedback
from karen_learner.errors import InvalidInput, LearnerClosed, trace_of
from karen_learner.learner import AutonomousLearner
from karen_learner.orchestrator.breaker import CircuitBreaker
from karen_learner.orchestrator.collection import SpooledCollection
from karen_learner.orchestrator.outcomes import StepOutcomes
from karen_learner.orchestrator.replies import (
    NO_ANSWER,
    Answers,
    LanguageModel,
    Prompt,
    Reply,
    Source,
    context_of,
    prepared_answer,
)
from karen_learner.records import Analysis, UserFeedback, check_amount

logger = logging.getLogger(__name__)

T = TypeVar("T")

ANALYSIS, ANSWERING, RATED = "analysis", "answering", "rated_replies"
"""Domains of strategies: analyses, answers, and replies that users rated."""
LIKED = 0.5
"""The satisfaction from which a rated reply counts as a success of its strategy."""
ANALYSIS_SHARE = 0.25
"""The share of the deadline that the analysis may use."""
RESERVE_SHARE, MAX_RESERVE_S = 0.05, 0.05
"""The share of the deadline, and the most seconds, that the steps after the LLM may use."""
MAX_ABANDONED = 1_000
"""Calls that ignore their cancellation. The LLM is not called while there are more."""
RECENT_CHARS = 16_000_000
"""Characters of recent messages, which later feedback is checked against."""


class Orchestrator:
    """Replies to messages with a host's LLM, within a deadline, and collects the turns.

    `llm` is an async callable from a `Prompt` to a text. Nothing else leaves the machine. `answers` are the
    prepared answers. `deadline_s` limits the time from a message to its reply. The LLM's own limit is learned
    from its latencies. It is not called while its circuit breaker is open. A reply waits at most
    `spool_wait_s` for the commit of its turn to `spool` (default: the folder `spool` of the home).
    `spool_bounds` are those of `Spool`. `describe` makes the context of an analysis.

    Use it with `async with`. It starts the learner, and does not close it. Raises InvalidInput.
    """

    def __init__(
        self,
        learner: AutonomousLearner,
        llm: LanguageModel,
        *,
        answers: Answers | None = None,
        describe: Callable[[Analysis], str] = context_of,
        deadline_s: float = 10.0,
        spool: Path | str | None = None,
        spool_wait_s: float = 0.001,
        spool_bounds: Mapping[str, Any] | None = None,
    ) -> None:
        if not callable(llm):
            raise InvalidInput(f"llm must be an async callable, not {type(llm).__name__}")
        self.learner = learner
        self._llm = llm
        self._answers: Answers = answers if answers is not None else {}
        self._describe = describe
        self._deadline_s = _positive(deadline_s, "deadline_s")
        self._spool_wait_s = check_amount(spool_wait_s, "spool_wait_s")
        folder = Path(spool) if spool is not None else learner.layout.spool
        self.collection = SpooledCollection(learner, folder, **dict(spool_bounds or {}))
        self.outcomes = StepOutcomes(learner)
        self.breaker = CircuitBreaker()
        self._sanitizer = CharacterSanitizer()
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._late: set[asyncio.Task[bool]] = set()
        self._recent: LRUCache[tuple[str, str], tuple[str, Source]] = LRUCache(
            RECENT_CHARS, getsizeof=lambda one: 200 + len(one[0])
        )
        self._closed = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the learner, and store spooled turns of ended processes. Idempotent. Raises StoreError."""
        if self._closed:
            raise LearnerClosed("this orchestrator was closed: create another one")
        await self.learner.start()
        await self.collection.start()

    async def close(self) -> None:
        """Store spooled turns and outcomes, and abandon running calls. Idempotent."""
        self._closed = True
        for task in self._abandoned:
            task.cancel()
        await asyncio.gather(*self._late)
        await self.collection.close()
        await self.outcomes.close()

    # Replies ---------------------------------------------------------------------------------

    async def reply(
        self,
        tenant_id: str,
        user_text: str,
        *,
        user_id: str,
        conversation_id: str | None = None,
        turn_id: str | None = None,
        deadline_s: float | None = None,
    ) -> Reply:
        """The reply to a message, within the deadline. Its turn is stored in the background.

        A repeated `turn_id` is stored once. Raises InvalidInput, with nothing stored, and LearnerClosed.
        """
        started = time.perf_counter()
        end = started + _positive(self._deadline_s if deadline_s is None else deadline_s, "deadline_s")
        draft = self._draft(tenant_id, user_text, user_id, conversation_id, turn_id)
        analysis = await self._analysis(draft, end)
        answer, error = await self._llm_answer(draft, analysis, end)
        source: Source = "llm"
        if answer is None:
            source = "rules" if analysis.degraded else "spacy"
            answer = self._prepared(draft, analysis, source)
        wait_s = min(self._spool_wait_s, end - time.perf_counter())
        spooled = await self._spool(draft, answer, source, wait_s, None if analysis.degraded else analysis)
        return Reply(
            text=answer,
            turn_id=draft.turn_id,
            conversation_id=draft.conversation_id,
            source=source,
            analysis=analysis,
            spooled=spooled,
            error=error,
            seconds=time.perf_counter() - started,
        )

    async def collect(
        self,
        tenant_id: str,
        user_text: str,
        answer: str,
        *,
        user_id: str,
        conversation_id: str | None = None,
        turn_id: str | None = None,
    ) -> bool:
        """Spool a turn that the host's own LLM answered; True if it was committed. Raises InvalidInput."""
        draft = self._draft(tenant_id, user_text, user_id, conversation_id, turn_id)
        self.record_llm(tenant_id)
        return await self._spool(draft, _checked(answer), "llm", self._spool_wait_s)

    def record_llm(self, tenant_id: str, *, error: str | None = None, seconds: float | None = None) -> None:
        """Record a call of the host's own LLM as an outcome of its strategy. Never waits."""
        self.outcomes.record(
            tenant_id, ANSWERING, "llm", success=error is None, error_type=error, seconds=seconds
        )

    async def feedback(
        self, tenant_id: str, turn_id: str, feedback: UserFeedback | Mapping[str, Any]
    ) -> bool:
        """Spool feedback on a turn; True if it was committed. A rating is an outcome of its strategy.

        Raises InvalidInput. Feedback on a turn of another process is stored at once: raises UnknownTurn.
        """
        known = self._recent.get((tenant_id, turn_id))
        if known is None:
            await self.learner.add_feedback(tenant_id, turn_id, feedback)
            return True
        user_text, source = known
        parsed = parse_feedback(feedback, user_text)
        committed = await self.collection.put_feedback(tenant_id, turn_id, parsed, user_text=user_text)
        if parsed is not None and parsed.satisfaction_score is not None:
            liked = parsed.satisfaction_score >= LIKED
            self.outcomes.record(tenant_id, RATED, source, success=liked, task_id=turn_id)
        return committed

    # Steps -----------------------------------------------------------------------------------

    def _draft(
        self, tenant_id: str, user_text: str, user_id: str, conversation_id: str | None, turn_id: str | None
    ) -> TurnDraft:
        """The checked turn, without an answer. Raises InvalidInput, and LearnerClosed after `close()`."""
        if self._closed:
            raise LearnerClosed("this orchestrator was closed: create another one")
        return draft_turn(
            tenant_id,
            user_text,
            "",
            user_id,
            limits=self.learner.settings.analysis,
            sanitizer=self._sanitizer,
            conversation_id=conversation_id,
            turn_id=turn_id,
        )

    async def _analysis(self, draft: TurnDraft, end: float) -> Analysis:
        """The analysis by spaCy; by rules, if it fails, is late, or has no model."""
        started, text = time.perf_counter(), draft.user_text
        error: str | None = None
        try:
            found = await self._within(
                self.learner.analyze(draft.tenant_id, text, user_id=draft.user_id),
                ANALYSIS_SHARE * (end - started),
            )
            error = "no_model" if found.degraded else None
        except LearnerClosed:
            raise
        except Exception as failure:  # the analyzer may be foreign code
            error = type(failure).__name__
        self._record(draft, ANALYSIS, "spacy", error, started)
        if error is None:
            return found
        started = time.perf_counter()
        by_rules = await answer_without_model(text, "rules")
        self._record(draft, ANALYSIS, "rules", None, started)
        return by_rules

    async def _llm_answer(
        self, draft: TurnDraft, analysis: Analysis, end: float
    ) -> tuple[str | None, str | None]:
        """The answer of the LLM; None and the type of the error if it fails, is late, or is not called."""
        started = time.perf_counter()
        left = end - started - min(MAX_RESERVE_S, RESERVE_SHARE * self._deadline_s)
        learned = self.outcomes.timeout_s(draft.tenant_id, ANSWERING, "llm")
        timeout_s = left if learned is None else min(left, learned)
        if timeout_s <= 0.0 or len(self._abandoned) > MAX_ABANDONED or not self.breaker.allows():
            return None, "not_called"
        answer, error = None, None
        try:
            prompt = Prompt(
                context=self._describe(analysis),
                user_text=draft.user_text,
                tenant_id=draft.tenant_id,
                user_id=draft.user_id,
                conversation_id=draft.conversation_id,
                analysis=analysis,
            )
            answer = _checked(await self._within(_awaited(self._llm(prompt)), timeout_s))
        except Exception as failure:  # the LLM is foreign code
            error = type(failure).__name__
            logger.info("the LLM failed: %s", error)
        self.breaker.record(error is None)
        self._record(draft, ANSWERING, "llm", error, started)
        return answer, error

    def _prepared(self, draft: TurnDraft, analysis: Analysis, source: Source) -> str:
        started, error = time.perf_counter(), None
        try:
            answer = _checked(prepared_answer(self._answers, analysis))
        except Exception as failure:  # the function of a host
            logger.error("the prepared answers failed: %s", trace_of(failure))
            answer, error = NO_ANSWER, type(failure).__name__
        self._record(draft, ANSWERING, source, error, started)
        return answer

    async def _spool(
        self,
        draft: TurnDraft,
        answer: str,
        source: Source,
        wait_s: float,
        analysis: Analysis | None = None,
    ) -> bool:
        """Spool the turn; whether it was committed in time. A late commit goes on."""
        limit = self.learner.settings.analysis.max_response_chars
        turn = replace(draft, assistant_response=answer[:limit])
        self._recent[draft.key] = draft.user_text, source
        putting = asyncio.create_task(self.collection.put_turn(turn, analysis))
        done, _ = await asyncio.wait([putting], timeout=max(0.0, wait_s))
        if not done:
            self._late.add(putting)
            putting.add_done_callback(self._late.discard)
        return bool(done) and putting.result()

    def _record(
        self, draft: TurnDraft, domain: str, strategy: str, error: str | None, started: float
    ) -> None:
        self.outcomes.record(
            draft.tenant_id,
            domain,
            strategy,
            success=error is None,
            error_type=None if error is None else error[:200],
            seconds=time.perf_counter() - started,
            task_id=draft.turn_id,
        )

    async def _within(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """The result of foreign work. Raises TimeoutError in time, also if it ignores its cancellation."""
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait([task], timeout=timeout_s)
        except asyncio.CancelledError:
            task.cancel()
            self._keep(task)
            raise
        if not done:
            task.cancel()
            self._keep(task)
            raise TimeoutError
        if task.cancelled():
            raise RuntimeError("the call cancelled itself")
        return task.result()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        """Keep a reference to a task until it ends, and read its error."""
        self._abandoned.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()


async def _awaited(answer: Awaitable[str]) -> str:
    return await answer


def _checked(answer: object) -> str:
    """A usable answer. Raises InvalidInput for anything but a text with a letter or sign."""
    if not isinstance(answer, str) or not answer.strip():
        raise InvalidInput(f"an answer is a text that is not blank, not {type(answer).__name__}")
    return answer


def _positive(seconds: float, what: str) -> float:
    if not check_amount(seconds, what):
        raise InvalidInput(f"{what} must be more than 0 seconds")
    return seconds
