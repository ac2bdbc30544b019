"""Contract of `HostMemory`: it receives stored turns; repeated and unconsented turns are no errors."""

from typing import Any

import pytest

from karen_learner.contracts import HostMemory
from karen_learner.integrations import as_host_memory
from karen_learner.records import ConversationMetadata, Turn, utc_now


class RecordingHost:
    """A host that implements the Protocol."""

    def __init__(self) -> None:
        self.received: list[str] = []

    async def remember(self, turn: Turn) -> None:
        self.received.append(turn.turn_id)


class WebUI:
    """A host with `store_web_ui_memory`, which `as_host_memory` wraps."""

    def __init__(self) -> None:
        self.received: list[str] = []

    async def store_web_ui_memory(self, *, metadata: dict[str, Any], **_: Any) -> None:
        self.received.append(metadata["turn_id"])

    async def query_memories(self, tenant_id: str, query: Any) -> list[Any]:
        return []


def turn(turn_id: str, text: str | None) -> Turn:
    metadata = ConversationMetadata(
        conversation_id="c", turn_id=turn_id, tenant_id="acme", user_id="u", intent_detected=None,
        intent_confidence=0.0, sentiment_detected=None, sentiment_confidence=0.0,
        persona_selected="assistant", user_satisfaction=None, response_quality=None, entities_extracted=(),
        linguistic_features={}, feedback_provided=False, correction_needed=False, degraded=True,
        model_version=None, occurred_at=utc_now(),
    )  # fmt: skip
    return Turn(metadata=metadata, user_text=text, assistant_response=text, seq=1)


@pytest.mark.parametrize("kind", [RecordingHost, WebUI])
async def test_turns_are_received_also_repeated_and_without_text(kind: type[Any]) -> None:
    host = kind()
    memory: HostMemory = as_host_memory(host)
    for one in (turn("t1", "hello"), turn("t1", "hello"), turn("t2", None)):
        assert await memory.remember(one) is None
    assert host.received == ["t1", "t1", "t2"]
