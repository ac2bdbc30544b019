"""`notify`: targets of notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from karen_learner.cli.context import Context
from karen_learner.cli.options import argument, with_common_options
from karen_learner.cli.tables import FittingTable, utc_text
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from karen_learner.records.notifications import TargetState

Action = Literal["status", "test"]


@with_common_options
async def notify(
    run: Context,
    action: Annotated[Action, argument("ACTION", "status (default) or test.", show_default=True)] = "status",
    target: Annotated[str | None, argument("TARGET", "Only this target.")] = None,
) -> int:
    """List the targets of notifications and their waiting notifications, or send a test message.

    `test` needs no home. Exit codes: 0 all targets accept messages, 7 one does not.
    """
    return await (_test(run, target) if action == "test" else _status(run, target))


async def _test(run: Context, target: str | None) -> int:
    from karen_learner.autonomy.notifications.notifier import send_test
    from karen_learner.records import utc_now

    sent = await send_test(run.settings().notifications, utc_now(), target)
    rows = [{"target": one.target, "result": one.error or "accepted"} for one in sent]
    run.output.result([one.to_dict() for one in sent], FittingTable(rows, folded="result"))
    return ExitCode.UNHEALTHY if any(one.error for one in sent) else ExitCode.OK


async def _status(run: Context, target: str | None) -> int:
    from karen_learner.autonomy.notifications import Notifier

    async with run.learner() as learner:
        states = await Notifier(learner.store, learner.settings.notifications).states()
    states = [one for one in states if target in (None, one.target)]
    shown = FittingTable([_row(one) for one in states], folded="error") if states else "no target is set"
    run.output.result([one.to_dict() for one in states], shown)
    return ExitCode.UNHEALTHY if any(one.failures and one.error for one in states) else ExitCode.OK


def _row(state: TargetState) -> dict[str, object]:
    return {
        "target": state.target,
        "waiting": state.waiting,
        "delivered": state.delivered,
        "given up": state.given_up,
        "last delivery": None if state.last_delivered is None else utc_text(state.last_delivered),
        "error": state.error,
    }
