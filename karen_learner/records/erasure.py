"""Erasure of a person: the number of rows and files with personal data."""

from __future__ import annotations

from karen_learner.records.base import Record


class PersonalRows(Record):
    """Rows of a user in the store of one tenant.

    `turns` have the user's id. `labels` are contributions to examples, `log_entries` those of the production
    log, and `events` those in the inbox of streams. `spooled` turns and feedback waited for their analysis.
    """

    turns: int = 0
    labels: int = 0
    log_entries: int = 0
    events: int = 0
    spooled: int = 0

    @property
    def total(self) -> int:
        return self.turns + self.labels + self.log_entries + self.events + self.spooled


class Erasure(Record):
    """Result of `erase_user`. With `done` false, nothing was changed.

    `corpora` counts the removed files of training texts, all of the tenant. They stay while a cycle runs
    (`corpora_in_use`).
    """

    done: bool
    rows: PersonalRows
    corpora: int = 0
    corpora_in_use: bool = False
