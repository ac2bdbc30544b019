"""Opens the source of a stream: only Kafka needs an extra."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from karen_learner.autonomy.stream.protocols import Accept
from karen_learner.errors import InvalidInput
from karen_learner.settings import StreamSettings

if TYPE_CHECKING:
    from karen_learner.autonomy.stream.kafka import KafkaSource


def kafka_source(
    servers: str,
    topic: str,
    *,
    group: str,
    settings: StreamSettings,
    accept: Accept,
    is_full: Callable[[], bool],
) -> KafkaSource:
    """A source that is not started. Raises InvalidInput without the extra `kafka`."""
    try:
        from karen_learner.autonomy.stream.kafka import KafkaSource
    except ImportError as error:
        raise InvalidInput("events from Kafka need an extra: install `karen-learner[kafka]`") from error
    return KafkaSource(
        servers, topic, group=settings.group or group, settings=settings, accept=accept, is_full=is_full
    )
