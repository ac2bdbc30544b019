"""The first schema. New databases have the schema of `tables.py`, so no database is migrated to this one."""

revision = "0001"
down_revision = None
