"""Users who keep the former champion after a deployment, so that its effect can be measured."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated

from pydantic import Field

from karen_learner.records.base import Record

_RANGE = 2**64


class Holdback(Record):
    """A random share of users is answered by `version` until `ends_at`; the others by the newer versions.

    A user belongs to the share by a hash of tenant and user, salted with the version. So the group is the
    same in all processes, and another one in each measurement.
    """

    version: str
    share: Annotated[float, Field(gt=0.0, lt=1.0)]
    started_at: datetime
    ends_at: datetime

    def runs(self, now: datetime) -> bool:
        """Whether the holdback has not ended."""
        return now < self.ends_at

    def keeps(self, tenant_id: str, user_id: str) -> bool:
        """Whether the user keeps the version."""
        name = "\0".join((self.version, tenant_id, user_id)).encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") < self.share * _RANGE
