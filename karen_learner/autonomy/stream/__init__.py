"""Events of a host, in process or from Kafka, and the model updater that uses them."""

from karen_learner.autonomy.stream.events import event_schema, read_event
from karen_learner.autonomy.stream.updater import RealTimeModelUpdater, UpdateStrategy

__all__ = ["RealTimeModelUpdater", "UpdateStrategy", "event_schema", "read_event"]
