"""Identifiers that are adjacent in an index."""

import uuid

from karen_learner.records import new_id


def test_a_uuid_of_version_seven() -> None:
    made = uuid.UUID(new_id())
    assert made.version == 7
    assert made.variant == uuid.RFC_4122


def test_later_ids_are_greater_and_unique() -> None:
    made = [new_id() for _ in range(2000)]
    assert len(set(made)) == 2000
    moments = [name[:12] for name in made]
    assert moments == sorted(moments)
