"""Cron expressions in time zones, by cronsim. It follows Debian's cron at both edges of daylight saving.

At fixed hours, a time that the clock skips in spring runs at once after the change. A time that the clock
shows twice in autumn runs once.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator

from karen_learner.errors import InvalidInput

FIELDS = 5
_ANY_TIME = datetime(2024, 1, 1, tzinfo=timezone.utc)


def read_zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name, such as `Europe/Berlin`. Raises InvalidInput."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise InvalidInput(f"unknown time zone {name!r:.60}: use a name such as Europe/Berlin") from error


Zone = Annotated[str, AfterValidator(lambda name: read_zone(name).key)]
"""The IANA name of a time zone."""


def read_expression(expression: str) -> str:
    """The expression with single spaces. Raises InvalidInput if it is no cron expression, or never fires."""
    words = " ".join(expression.split())
    if len(words.split()) != FIELDS:
        raise InvalidInput(
            f"a cron expression has five fields (minute hour day month weekday): {words!r:.60}"
        )
    try:
        next(CronSim(words, _ANY_TIME))
    except CronSimError as error:
        raise InvalidInput(f"no cron expression: {words!r:.60} ({error})") from error
    except StopIteration:
        raise InvalidInput(
            f"the cron expression {words!r:.60} never fires: name a date that exists"
        ) from None
    return words


def next_time(expression: str, after: datetime, *, zone: str = "UTC") -> datetime:
    """The first time (UTC) of the expression in the zone that is later than `after`. Raises InvalidInput."""
    local = after.astimezone(read_zone(zone))
    try:
        found: datetime = next(CronSim(expression, local))
    except (CronSimError, StopIteration) as error:
        raise InvalidInput(f"the cron expression {expression!r:.60} never fires") from error
    return found.astimezone(timezone.utc)


def last_time(expression: str, at: datetime, *, zone: str = "UTC") -> datetime:
    """The newest time (UTC) of the expression in the zone, not later than `at`. Raises InvalidInput."""
    local = at.astimezone(read_zone(zone)) + timedelta(minutes=1)
    try:
        found: datetime = next(CronSim(expression, local.replace(second=0, microsecond=0), reverse=True))
    except (CronSimError, StopIteration) as error:
        raise InvalidInput(f"the cron expression {expression!r:.60} never fired") from error
    return found.astimezone(timezone.utc)
