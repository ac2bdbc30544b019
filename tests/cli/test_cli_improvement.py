"""The commands `performance`, `evidence` and `recommendations`, and the import of log entries."""

from __future__ import annotations

import json
import shlex
from datetime import timedelta
from pathlib import Path

from typer.testing import CliRunner, Result

from karen_learner.cli import app
from karen_learner.records import utc_now
from tests.conftest import ACME
from tests.improvement.test_production_log import entry


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["--home", str(home), *words])


def test_a_log_is_imported_analysed_and_improved(tmp_path: Path) -> None:
    log, home = tmp_path / "log.jsonl", tmp_path / "home"
    yesterday = (utc_now() - timedelta(days=1)).isoformat()
    labels = {"success_indicator": False}
    entries = [entry(n, timestamp=yesterday, training_labels=labels) for n in range(60)]
    log.write_text("\n".join([*map(json.dumps, entries), '{"log_type": 1}']))
    imported = run(home, "ingest", ACME, str(log), "--json")
    assert imported.exit_code == 0, imported.output
    assert json.loads(imported.stdout) | {"reasons": {}} == {
        "entries": 61, "added": 61, "duplicates": 0, "corrupt": 1, "reasons": {},
    }  # fmt: skip
    assert "1 are corrupt" in run(home, "ingest", ACME, str(log)).output
    found = run(home, "performance", ACME, "--json")
    assert found.exit_code == 7, found.output
    results = json.loads(found.stdout)
    query = results["components"]["ai_message_performance"]["evidence"]["query"]
    evidence = run(home, *shlex.split(query)[1:], "--json")
    assert json.loads(evidence.stdout)["numbers"] == {"observations": 60}
    trend = next(one for one in results["trends"] if one["metric"] == "approval_rate")
    evidence = run(home, *shlex.split(trend["evidence"]["query"])[1:], "--json")
    assert json.loads(evidence.stdout)["entry_ids"] == trend["evidence"]["entry_ids"]
    assert "1 of 61 log entries (1.6%) are skipped." in run(home, "performance", ACME).output
    made = json.loads(run(home, "recommendations", ACME, "--json").stdout)
    one = next(one for one in made if one["metric"] == "ai_message_performance.approval_rate")
    assert one["priority"] == "HIGH"
    assert run(home, "recommendations", ACME, "accept").exit_code == 2
    accepted = run(home, "recommendations", ACME, "implement", one["id"], "--details", "new templates")
    assert accepted.exit_code == 0, accepted.output
    assert "implemented" in run(home, "recommendations", ACME, "list").output
    assert run(home, "recommendations", ACME, "measure", one["id"]).exit_code == 1
    assert run(home, "performance", "nobody").exit_code == 1
    assert run(home, "evidence", ACME, "x", "--start", "soon", "--end", "2026-01-01").exit_code == 2
