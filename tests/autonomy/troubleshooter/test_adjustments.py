"""Settings that remedies change: for one tenant, after a restart, after a crash, and until their end."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta
from typing import Any

import pytest

from karen_learner.errors import SettingsError
from karen_learner.learner import AutonomousLearner
from karen_learner.memory import owner_of
from karen_learner.records import utc_now
from karen_learner.records.incidents import Incident
from karen_learner.settings import Adjustment, load_settings
from tests.autonomy.troubleshooter.conftest import MakePatient
from tests.conftest import ACME, MakeLearner

TOKEN = {"before": {"training.batch_size": 32}, "after": {"training.batch_size": 16}}


def adjustment(tenant_id: str | None, before: Any, after: Any) -> Adjustment:
    return Adjustment(tenant_id, {"training.batch_size": before}, {"training.batch_size": after})


def test_an_adjustment_holds_for_its_tenant_until_its_end() -> None:
    settings = load_settings()
    settings.adjust(adjustment("acme", 32, 16))
    settings.adjust(adjustment("acme", 16, 8))
    settings.adjust(adjustment("acme", 16, 8))
    assert [settings.of(name).training.batch_size for name in ("acme", "other", None)] == [8, 32, 32]
    assert settings.training.batch_size == 32
    settings.end_adjustment(adjustment("acme", 16, 8))
    assert settings.of("acme").training.batch_size == 16
    settings.end_adjustment(adjustment("acme", 32, 16))
    assert settings.of("acme") is settings


def test_an_adjustment_of_the_home_holds_for_all_and_a_changed_value_stays() -> None:
    settings = load_settings()
    settings.adjust(adjustment(None, 32, 16))
    assert settings.of("any").training.batch_size == 16
    settings.training.batch_size = 64
    assert settings.of("any").training.batch_size == 64


@pytest.mark.parametrize("values", [{"training.batch_size": -1}, {"training.no": 1}, {"no.thing": 1}])
def test_an_impossible_adjustment_changes_nothing(values: dict[str, Any]) -> None:
    settings = load_settings()
    with pytest.raises(SettingsError):
        settings.adjust(Adjustment(None, {}, values))
    assert settings.of(ACME) is settings


def incident(now: datetime, **values: Any) -> Incident:
    return Incident(
        tenant_id=ACME, type="memory_exhausted", severity="critical", opened_at=now, updated_at=now,
        **{"next_at": now, **values},
    )  # fmt: skip


async def test_kept_settings_hold_after_a_restart_until_their_end(
    make_learner: MakeLearner, make_patient: MakePatient
) -> None:
    now = utc_now()
    kept = {"smaller_batches": TOKEN}
    async with make_learner() as learner:
        await learner.store.save_incident(incident(now, state="resolved", ended_at=now, kept=kept))
        assert learner.settings.of(ACME).training.batch_size == 32
    async with make_learner() as learner:
        patient = make_patient(learner, "memory_exhausted")
        await patient.pass_time(days=1)
        assert learner.settings.of(ACME).training.batch_size == 16
        assert learner.settings.of("other").training.batch_size == 32
        await patient.pass_time(days=learner.settings.troubleshooter.keep_days)
        assert learner.settings.of(ACME).training.batch_size == 32
        assert (await patient.story("memory_exhausted"))[-1].endswith("the former settings are back")


async def test_a_remedy_that_a_crash_interrupted_is_undone(
    acme: AutonomousLearner, make_patient: MakePatient
) -> None:
    now = utc_now()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = owner_of(process.pid)
    crashed = incident(
        now, state="applying", remedy="smaller_batches", token=TOKEN, applied_at=now, owner=owner,
        next_at=now + timedelta(hours=12), attempts={"smaller_batches": 1},
    )  # fmt: skip
    await acme.store.save_incident(crashed)
    patient = make_patient(acme, "memory_exhausted")
    await patient.troubleshooter.start()
    assert acme.settings.of(ACME).training.batch_size == 16
    await patient.pass_time()
    assert acme.settings.of(ACME).training.batch_size == 32
    found = await patient.incident("memory_exhausted")
    assert (found.state, found.remedy, found.token) == ("open", None, None)
    assert [entry.text for entry in found.story] == [
        "smaller_batches was interrupted", "smaller_batches is undone",
    ]  # fmt: skip


async def test_a_silenced_incident_sends_nothing_until_its_hours_have_passed(
    acme: AutonomousLearner, make_patient: MakePatient
) -> None:
    acme.settings.notifications.update(
        {"targets": {"ops": {"kind": "webhook", "url": "https://ops.example.org/"}}, "group_s": 0.0}
    )
    champion = (await acme.status(ACME)).champion
    assert champion is not None
    (champion.path / "meta.json").write_text("{}")
    patient = make_patient(acme, "damaged_version")
    people = patient.troubleshooter.operator_actions
    for remedy in ("restore_version", "rollback"):
        await people.pause(remedy, "I look at it", now=patient.now)
    opened = incident(patient.now, state="open").model_copy(
        update={"type": "damaged_version", "next_at": patient.now + timedelta(minutes=5)}
    )
    saved = await acme.store.save_incident(opened)
    assert saved is not None
    await people.silence(saved.incident_id, "planned work", hours=2.0, now=patient.now)
    await patient.pass_time(minutes=30)
    assert (await patient.incident("damaged_version")).state == "escalated"
    await patient.pass_time(minutes=30)
    assert [one.waiting for one in await acme.store.target_states()] in ([], [0])
    await patient.pass_time(minutes=90)
    assert [one.waiting for one in await acme.store.target_states()] == [1]
