"""A user is erased: no row and no file keeps the words or the id; the data of others stay."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from karen_learner.collection import erasure
from karen_learner.errors import InvalidInput, UnknownTenant
from karen_learner.learner import AutonomousLearner, create_autonomous_learner
from karen_learner.monitoring.scores import outcome_of
from karen_learner.records import utc_now
from karen_learner.records.erasure import PersonalRows
from karen_learner.records.stream import NewEvent, StreamEvent, StreamTurn
from tests.conftest import ACME, TINY
from tests.databases import contents
from tests.improvement.test_production_log import entry

ANN, BOB = 'ann "%_\\" é', "bob"
TTL = timedelta(seconds=60)
SHARED_TEXT = "how much do i owe"


async def tell(learner: AutonomousLearner, user: str, text: str, **more: str) -> None:
    feedback = {"corrected_intent": "balance", "comment": f"{user} said so"}
    await learner.collect_conversation_metadata(ACME, text, f"you said {text}", user, feedback, **more)


async def curate(learner: AutonomousLearner) -> None:
    lease = await learner.store.acquire_lease(ACME, "test", ttl=TTL)
    assert lease is not None
    await learner._curator.curate(ACME, token=lease.token)
    await learner.store.release_lease(lease)


@pytest.fixture
async def told(shared: Path | str, tmp_path: Path):
    """Turns, examples, gold, log entries and events of two users."""
    overrides = {**TINY, "store.url": str(shared)}
    async with create_autonomous_learner(tmp_path / "home", overrides=overrides) as learner:
        for n in range(7):
            await tell(learner, ANN, f"annas words {n}", turn_id=f"a{n}", conversation_id="annas talk")
        await tell(learner, BOB, "bobs words", turn_id="b")
        for user in (ANN, BOB):
            await tell(learner, user, SHARED_TEXT)
        await learner.collect_conversation_metadata(ACME, "annas small talk", "yes", ANN)
        declared = [{"text": f"{intent} of nobody", "intent": intent} for intent in ("balance", "travel")]
        gold = {"text": "annas gold words", "intent": "travel", "user_id": ANN}
        await learner._curator.add_gold(ACME, [*declared, gold])
        await curate(learner)
        await tell(learner, ANN, "annas last words")
        for n, user in enumerate((ANN, BOB)):
            await learner.log_decision(ACME, entry(n, user_id=user, input_data={"text": f"words of {user}"}))
            turn = StreamTurn(user_text=f"event of {user}", user_id=user)
            event = NewEvent(f"key of {len(user)}", StreamEvent(agent_name="bot", turn=turn))
            await learner.store.add_events(ACME, [event], now=utc_now())
        corpus = learner.layout.corpus(ACME, "cycle")
        corpus.mkdir(parents=True)
        (corpus / "train.spacy").write_bytes(b"annas words")
        yield learner, shared


async def test_nothing_of_the_user_is_left(told, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, place = told
    monkeypatch.setattr(erasure, "PAGE", 3)  # several transactions
    before = await learner.status(ACME)
    planned = await learner.erase_user(ACME, ANN, dry_run=True)
    assert planned.rows == PersonalRows(turns=10, labels=9, log_entries=1, events=1)
    assert not planned.done
    assert "annas words 3" in await contents(place)

    done = await learner.erase_user(ACME, ANN)
    assert done.done
    assert done.rows == planned.rows
    assert (done.corpora, done.corpora_in_use) == (1, False)
    left = await contents(place)
    for word in ("annas", "ann ", "ann\\", "said so"):
        assert word not in left.replace("bob said so", "")
    for words in ("bobs words", SHARED_TEXT, "words of bob", "event of bob", "bob said so"):
        assert words in left
    assert not learner.layout.corpora(ACME).exists()
    after = await learner.status(ACME)
    assert after.counts.turns == before.counts.turns + done.rows.events  # an empty turn for each event
    assert (await learner.erase_user(ACME, ANN)).rows == PersonalRows()


async def test_no_file_has_the_words_while_the_store_is_open(told) -> None:
    learner, place = told
    await learner.erase_user(ACME, ANN)
    assert "annas" not in await contents(place)
    if isinstance(place, Path):  # PostgreSQL removes old rows and segments of its log by itself
        files = [place, *place.parent.glob(f"{place.name}-*")]
        assert len(files) == 3
        for file in files:
            assert b"annas" not in file.read_bytes()


async def test_curation_of_former_turns_leaves_no_id(told, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, place = told
    for n in range(2):
        await tell(learner, ANN, f"annas new words {n}")
    save = learner.store.save_curation

    async def save_late(*args: object, **values: object) -> bool:
        await learner.erase_user(ACME, ANN)
        return await save(*args, **values)

    monkeypatch.setattr(learner.store, "save_curation", save_late)
    await curate(learner)
    left = await contents(place)
    assert "annas" not in left
    assert "ann " not in left


async def test_two_erasures_at_once_erase_each_row_once(told, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, place = told
    monkeypatch.setattr(erasure, "PAGE", 3)
    planned = await learner.erase_user(ACME, ANN, dry_run=True)
    overrides = {**TINY, "store.url": str(place)}
    async with create_autonomous_learner(learner.layout.home, overrides=overrides) as other:
        done = await asyncio.gather(*(one.erase_user(ACME, ANN) for one in (learner, other)))
    assert sum(one.rows.total for one in done) == planned.rows.total
    assert "annas" not in await contents(place)


async def test_a_withdrawn_correction_leaves_the_outcome_of_the_turn(told) -> None:
    learner, _ = told
    turn = await learner.store.get_turn(ACME, "a1")
    outcome = outcome_of(turn)
    await learner.store.add_outcomes(ACME, [outcome])
    await learner.add_feedback(ACME, "a1", {"consent": False})
    ((_, left),) = await learner.store.outcome_page(ACME, limit=9)
    assert (outcome.actual, left.actual) == ("balance", None)
    assert left.score == outcome.score


async def test_texts_of_others_are_learned_still(told) -> None:
    learner, _ = told
    await learner.erase_user(ACME, ANN)
    await curate(learner)
    pending = {one.text: one async for one in learner.store.examples(ACME, state="pending")}
    assert set(pending) == {"bobs words", SHARED_TEXT, "balance of nobody", "travel of nobody"}
    assert pending[SHARED_TEXT].users == 1


async def test_the_events_of_an_equal_id_in_capitals_stay(told) -> None:
    learner, place = told
    assert (await learner.erase_user(ACME, BOB.upper(), dry_run=True)).rows == PersonalRows()
    assert (await learner.erase_user(ACME, BOB.upper())).rows == PersonalRows()
    assert "event of bob" in await contents(place)


async def test_a_repeated_turn_stays_erased(told) -> None:
    learner, place = told
    await learner.erase_user(ACME, ANN)
    await tell(learner, ANN, "annas words 3", turn_id="a3")
    assert "annas" not in await contents(place)


async def test_an_event_that_is_processed_meanwhile_stays_erased(told) -> None:
    learner, place = told
    (waiting,) = [
        one
        for one in await learner.store.waiting_events(ACME, limit=9)
        if one.event.turn is not None and one.event.turn.user_id == ANN
    ]
    await learner.erase_user(ACME, ANN)
    await tell(learner, ANN, waiting.event.turn.user_text, turn_id=waiting.turn_id)
    assert waiting.event.turn.user_text not in await contents(place)


async def test_an_interrupted_erasure_is_completed(told, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, place = told
    monkeypatch.setattr(erasure, "PAGE", 3)
    erase, calls = learner.store.erase_page, 0

    async def fail(*args: str, **values: object) -> PersonalRows:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise asyncio.CancelledError
        return await erase(*args, **values)

    monkeypatch.setattr(learner.store, "erase_page", fail)
    with pytest.raises(asyncio.CancelledError):
        await learner.erase_user(ACME, ANN)
    assert "annas" in await contents(place)
    await learner.erase_user(ACME, ANN)
    assert "annas" not in await contents(place)


async def test_training_texts_stay_while_a_cycle_runs(told) -> None:
    learner, _ = told
    lease = await learner.store.acquire_lease(ACME, "other", ttl=TTL)
    done = await learner.erase_user(ACME, ANN)
    assert (done.corpora, done.corpora_in_use) == (0, True)
    await learner.store.release_lease(lease)
    assert (await learner.erase_user(ACME, ANN)).corpora == 1


async def test_a_tenant_with_log_entries_alone_is_known(told) -> None:
    learner, place = told
    await learner.log_decision("other", entry(0, user_id="eve", input_data={"text": "words of eve"}))
    assert (await learner.erase_user("other", "eve")).rows == PersonalRows(log_entries=1)
    assert "words of eve" not in await contents(place)


async def test_bad_input_is_refused(told) -> None:
    learner, _ = told
    with pytest.raises(UnknownTenant):
        await learner.erase_user("nobody", ANN)
    for user in ("", None, "a" * 1_001):
        with pytest.raises(InvalidInput):
            await learner.erase_user(ACME, user)
