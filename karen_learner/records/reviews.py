"""Reviews: items that a person may label, their leases, drafts and decisions; contributors of labels."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, get_args

from karen_learner.records.base import Record, Task
from karen_learner.records.texts import LabelledText

ItemKind = Literal["conflict", "doubtful", "unknown_label", "uncertain"]
"""People disagree; the shadows find a label improbable; a label is not in the schema; or the model was not
sure, without a correction."""
ReviewDecision = Literal["saved", "skipped", "ignored"]
"""`saved`: labelled as gold. `skipped`: left to other reviewers. `ignored`: there is nothing to learn."""
ITEM_KINDS: tuple[ItemKind, ...] = get_args(ItemKind)


class Claim(Record):
    """The labels that some people give to the text of an item."""

    task: Task
    label: str
    people: int


class ReviewItem(LabelledText):
    """A text that a person may label. Its labels are the present or the detected ones.

    `item_id` names an example or a turn. `why` says in words why it was chosen. `confidence` is that of the
    intent, `version` the version that detected it.
    """

    item_id: str
    kind: ItemKind
    why: str
    turn_id: str
    confidence: float = 0.0
    version: str | None = None
    claims: tuple[Claim, ...] = ()
    at: datetime


class Review(Record):
    """The state of an item: the person who works on it until a time, a draft, and the decision.

    It has no text of a user.
    """

    item_id: str
    reviewer: str
    leased_until: datetime
    draft: dict[str, Any] | None = None
    decision: ReviewDecision | None = None
    decided_at: datetime | None = None


class Contributor(Record):
    """A user with the number of contributed labels: those of one turn count once.

    `agreeing` of the `intents` equal the label that counts for their text now. `unusable` ones have a label
    outside the schema, or spans that do not fit.
    """

    user_id: str
    contributions: int
    intents: int
    agreeing: int
    unusable: int
    last_at: datetime
