"""Writes the published JSON schema of reports."""

import json

from karen_learner.reports.rendering import SCHEMA_FILE, schema

if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(schema(), indent=1) + "\n", encoding="utf-8")
