"""Reviews, on each store."""

from datetime import timedelta

from karen_learner.records import utc_now

NOW = utc_now()
LATER = NOW + timedelta(minutes=10)
DRAFT = {"intent": "a\0b", "entities": [[0, 1, "x"]]}


async def test_an_item_is_claimed_by_one_reviewer_at_a_time(store):
    claimed = await store.claim_review("acme", "turn/1", "ann", now=NOW, until=LATER)
    assert (claimed.reviewer, claimed.leased_until) == ("ann", LATER)
    assert await store.claim_review("acme", "turn/1", "bob", now=NOW, until=LATER) is None
    assert await store.claim_review("other", "turn/1", "bob", now=NOW, until=LATER) is not None
    assert await store.change_review("acme", "turn/1", "ann", draft=DRAFT)
    assert not await store.change_review("acme", "turn/1", "bob", draft=None)
    assert (await store.reviews("acme", ["turn/1", "turn/2"]))["turn/1"].draft == DRAFT
    taken = await store.claim_review("acme", "turn/1", "bob", now=LATER, until=LATER)
    assert (taken.reviewer, taken.draft) == ("bob", None)
    assert not await store.change_review("acme", "turn/1", "ann", draft=None)


async def test_the_last_decision_of_a_reviewer(store):
    for number in range(3):
        await store.claim_review("acme", f"turn/{number}", "ann", now=NOW, until=LATER)
    assert await store.last_review("acme", "ann") is None
    for number, minutes in ((0, 1), (1, 3), (2, 2)):
        at = NOW + timedelta(minutes=minutes)
        await store.change_review(
            "acme", f"turn/{number}", "ann", draft=None, decision="ignored", decided_at=at
        )
    assert (await store.last_review("acme", "ann")).item_id == "turn/1"
    assert await store.last_review("other", "ann") is None
    assert await store.claim_review("acme", "turn/1", "ann", now=LATER, until=LATER) is None


async def test_a_draft_that_arrives_after_the_decision_does_not_open_the_item_again(store):
    await store.claim_review("acme", "turn/1", "ann", now=NOW, until=LATER)
    await store.change_review("acme", "turn/1", "ann", draft=None, decision="saved", decided_at=NOW)
    assert not await store.change_review("acme", "turn/1", "ann", draft=DRAFT)
    assert (await store.reviews("acme", ["turn/1"]))["turn/1"].decision == "saved"
    assert await store.change_review("acme", "turn/1", "ann", draft=None)
