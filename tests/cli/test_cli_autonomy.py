"""`karen-learner run` and `why`."""

from __future__ import annotations

from typing import Any


def test_why_and_a_dry_run_show_the_conditions_without_a_service(cli: Any) -> None:
    tick = cli.json("why", "telecom", code=4)
    assert tick["fires"] is False
    shown = cli("why", "telecom").stdout
    assert "no cycle" in shown
    assert "new_data: 0 new samples, needed 50" in shown
    (now,) = cli.json("run", "--dry-run")
    assert now["tenant_id"] == "telecom"


def test_a_tick_of_the_service_is_kept(cli: Any) -> None:
    assert cli.json("run", "--once")["status"] == "ended"
    assert cli.json("why", "telecom", code=4)["root"]["name"] == "any"


def test_an_unknown_tenant_and_a_useless_condition_are_errors(cli: Any) -> None:
    assert "did you mean 'telecom'" in cli("run", "--tenant", "telecon", "--dry-run").stderr
    bad = cli("why", "telecom", "--set", 'triggers.condition={"any": ["new_date"]}')
    assert bad.exit_code == 2
    assert "unknown trigger 'new_date'" in bad.stderr


def test_retrain_shows_decisions_queues_and_runs(cli: Any, fast: tuple[str, ...]) -> None:
    (state,) = cli.json("retrain", "--dry-run", code=4)
    assert state["should_retrain"]["due"] is False
    assert cli.json("retrain", code=4)[0]["status"] == "skipped"
    assert cli.json("retrain", "--status", code=4)["last_status"] == "skipped"
    assert cli.json("retrain", "--queue")["telecom"]["reason"] == "a person requested it"
    assert cli.json("why", "telecom", "--now")["reason"] == "a person requested it"
    assert cli("retrain", "--queue", "--status").exit_code == 1
    document = cli("history", "telecom", "--jsonl").stdout.splitlines()
    assert len(document) == 2


def test_monitor_shows_the_readings_once_outside_a_terminal(cli: Any) -> None:
    found = cli.json("monitor")["telecom"]
    assert found["freshness"]["value"] < 1.0
    assert found["accuracy"]["value"] is None
    shown = cli("monitor", "--tenant", "telecom", "--once").stdout
    assert "database_size" in shown
    assert "false alarms/month" in shown
