"""What was used last is remembered, what was not is forgotten."""

from karen_learner.collection.recent import Recent


def test_only_the_latest_are_kept() -> None:
    recent: Recent[str, int] = Recent(2)
    for number, key in enumerate(("a", "b", "a", "c")):
        recent.put(key, number)
    assert [recent.get(key) for key in "abc"] == [2, None, 3]
    assert ["a" in recent, "b" in recent, len(recent)] == [True, False, 2]
