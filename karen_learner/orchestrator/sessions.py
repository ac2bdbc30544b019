"""`TrainingSession`: a host's LLM proposes labels or paraphrases, as one contributor among others.

A session states its goal, labels and examples as a prompt. Its worth is measured: texts of known labels are
hidden among those that the LLM labels. Proposals become feedback of the contributor `llm:NAME`; a learning
cycle and its gates decide about them as about the feedback of a person.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from karen_learner.errors import InvalidInput
from karen_learner.learner import AutonomousLearner
from karen_learner.metrics import wilson
from karen_learner.orchestrator.replies import LanguageModel, Prompt
from karen_learner.records import LabelledText, LearningCycleResult, Record, check_id, check_several
from karen_learner.text_identity import text_key

BATCH = 20
"""Texts in one prompt."""
MAX_CHECKS = 50
"""Hidden texts of known labels in one session."""
MIN_CHECKS = 8
"""Hidden texts without which the agreement decides nothing."""
MAX_CHARS = 2_000
"""Longer texts are not sent."""

LabelTask = Literal["intent", "sentiment"]


class SessionReport(Record):
    """The proposals of one call. `agreement` is that with hidden texts of known labels; None without any.

    `interval` is its 95 % interval (Wilson). Without enough agreement nothing is stored. `unusable` counts
    texts for which the LLM returned no label of the session.
    """

    contributor: str
    asked: int
    stored: int
    unusable: int
    checked: int
    agreement: float | None = None
    interval: tuple[float, float] | None = None
    refused: str | None = None
    labels: Mapping[str, int] = Field(default_factory=dict)


class TrainingSession:
    """A training session with a goal, labels with their meanings, and labelled examples.

    `name` names the LLM: its proposals are those of one contributor in all sessions. Hidden texts check the
    proposals. With MIN_CHECKS of them or more, the lower bound of their agreement must reach `min_agreement`.
    Texts leave the machine only through `llm`. Raises InvalidInput.
    """

    def __init__(
        self,
        learner: AutonomousLearner,
        tenant_id: str,
        llm: LanguageModel,
        *,
        goal: str,
        labels: Mapping[str, str] | Sequence[str],
        examples: Iterable[LabelledText | Mapping[str, Any]] = (),
        task: LabelTask = "intent",
        name: str = "model",
        min_agreement: float = 0.5,
        seed: int = 0,
    ) -> None:
        if isinstance(labels, str) or not labels:
            raise InvalidInput("labels: give the names of the labels, or names with their meanings")
        self._learner = learner
        self._tenant_id = check_id(tenant_id, "tenant_id")
        self._llm = llm
        self._goal = goal
        self._labels = dict(labels) if isinstance(labels, Mapping) else dict.fromkeys(labels, "")
        self._task = task
        self._examples = [self._example(one) for one in examples]
        self._min_agreement = min_agreement
        self._random = np.random.default_rng(seed)
        self.contributor = f"llm:{check_id(name, 'name')}"

    @property
    def prompt(self) -> str:
        """Goal, labels and examples, as the LLM receives them."""
        labels = "\n".join(
            f"- {label}: {text}" if text else f"- {label}" for label, text in self._labels.items()
        )
        shown = "\n".join(f"- {text!r} is {label}" for text, label in self._shown())
        return f"Goal: {self._goal}\n\nLabels ({self._task}):\n{labels}\n\nExamples:\n{shown or '(none)'}"

    async def propose_labels(self, texts: Sequence[str]) -> SessionReport:
        """Let the LLM label texts, and store its proposals as feedback. Raises the errors of the LLM."""
        check_several(texts, "texts")
        wanted = [text for text in dict.fromkeys(texts) if text.strip() and len(text) <= MAX_CHARS]
        known = {text: label for text, label in self._hidden() if text not in wanted}
        mixed = [*wanted, *known]
        mixed = [mixed[at] for at in self._random.permutation(len(mixed))]
        found: dict[str, str] = {}
        for start in range(0, len(mixed), BATCH):
            found |= await self._labelled(mixed[start : start + BATCH])
        right = sum(found.get(text) == label for text, label in known.items())
        return await self._stored(
            {text: found[text] for text in wanted if text in found},
            asked=len(texts),
            right=right,
            checked=len(known),
        )

    async def propose_paraphrases(self, per_example: int = 3) -> SessionReport:
        """Let the LLM say the examples in other words, and store them with the labels of the examples.

        Raises the errors of the LLM.
        """
        proposals: dict[str, str] = {}
        for text, label in self._examples:
            task = f"Write {per_example} other messages of users with the same meaning. {_AS_TEXTS}"
            answer = _json_list(await self._ask(task, json.dumps(text)))
            taken = [one for one in answer if isinstance(one, str) and one.strip() and len(one) <= MAX_CHARS]
            proposals |= {one: label for one in taken[:per_example] if text_key(one) != text_key(text)}
        asked = per_example * len(self._examples)
        return await self._stored(proposals, asked=asked, right=0, checked=0)

    async def learn(self) -> LearningCycleResult:
        """A learning cycle on everything that waits; its gates decide about the proposals."""
        return await self._learner.trigger_learning_cycle(
            self._tenant_id, reason=f"session: {self._goal}"[:200]
        )

    def _example(self, given: LabelledText | Mapping[str, Any]) -> tuple[str, str]:
        values = given.to_dict() if isinstance(given, Record) else dict(given)
        text, label = values.get("text"), values.get(self._task)
        if not isinstance(text, str) or label not in self._labels:
            raise InvalidInput(f"an example has a `text`, and as `{self._task}` a label of the session")
        return text, str(label)

    def _shown(self) -> list[tuple[str, str]]:
        """Half of the examples are shown in the prompt; the others are hidden among the texts to label."""
        return self._examples[::2]

    def _hidden(self) -> list[tuple[str, str]]:
        return self._examples[1::2][:MAX_CHECKS]

    async def _labelled(self, texts: Sequence[str]) -> dict[str, str]:
        task = f"Label each message with one of the labels, or null if none fits. {_AS_PAIRS}"
        listed = json.dumps([{"number": number, "text": text} for number, text in enumerate(texts)])
        found = {}
        for one in _json_list(await self._ask(task, listed)):
            number, label = (one.get("number"), one.get("label")) if isinstance(one, dict) else (None, None)
            if type(number) is int and 0 <= number < len(texts) and label in self._labels:
                found[texts[number]] = str(label)
        return found

    async def _ask(self, task: str, items: str) -> str:
        answer = await self._llm(
            Prompt(context=f"{self.prompt}\n\n{task}", user_text=items, tenant_id=self._tenant_id)
        )
        if not isinstance(answer, str):
            raise InvalidInput(f"the LLM returned {type(answer).__name__}, not a text")
        return answer

    async def _stored(
        self, proposals: Mapping[str, str], *, asked: int, right: int, checked: int
    ) -> SessionReport:
        interval = wilson(right, checked) if checked else None
        refused = None
        if interval is not None and checked >= MIN_CHECKS and interval[0] < self._min_agreement:
            refused = (
                f"the LLM agrees with {right} of {checked} known labels: the lower bound {interval[0]:.2f} "
                f"is below {self._min_agreement:.2f}"
            )
        kept = {} if refused else proposals
        for text, label in kept.items():
            await self._learner.collect_conversation_metadata(
                self._tenant_id, text, "", self.contributor, {f"corrected_{self._task}": label},
                turn_id=self._turn_id(text, label),
            )  # fmt: skip
        counts = {label: list(kept.values()).count(label) for label in set(kept.values())}
        return SessionReport(
            contributor=self.contributor,
            asked=asked,
            stored=len(kept),
            unusable=max(0, asked - len(proposals)),
            checked=checked,
            agreement=right / checked if checked else None,
            interval=interval,
            refused=refused,
            labels=counts,
        )

    def _turn_id(self, text: str, label: str) -> str:
        """The same proposal is the same turn."""
        digest = hashlib.sha256(f"{text_key(text)} {label}".encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self.contributor}:{digest[:24]}"


_AS_PAIRS = 'Answer with JSON alone: [{"number": 0, "label": "..."}, ...].'
_AS_TEXTS = 'Answer with JSON alone: ["...", ...].'


def _json_list(answer: str) -> list[Any]:
    """The first JSON list of an answer, which may have words around it; empty without one."""
    start = answer.find("[")
    if start < 0:
        return []
    try:
        found, _ = json.JSONDecoder().raw_decode(answer, start)
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []
