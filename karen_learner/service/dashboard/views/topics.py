"""Topics: intents by volume, share of wrong answers and growth, and the turns of each."""

from __future__ import annotations

from starlette.responses import Response

from karen_learner.monitoring.readings.topics import Topic
from karen_learner.service.dashboard.frame import Viewed
from karen_learner.service.dashboard.pages import page_router
from karen_learner.service.dashboard.sessions import viewer

router = page_router()

SEARCHED, SHOWN = 1_000, 100
NO_INTENT = "(none)"


@router.get("/tenants/{tenant_id}/topics", dependencies=[viewer("read")])
async def topics(view: Viewed) -> Response:
    await view.learner.status(view.tenant_id)  # raises UnknownTenant
    measured = await view.state.measured(view.tenant_id)
    judged = sum(one.judged for one in measured.topics)
    mean = sum(one.wrong for one in measured.topics) / judged if judged else None
    rows = [(one, level_of(one, mean)) for one in measured.topics]
    return await view.page("topics.html", "Topics", topics=rows, mean=mean, no_intent=NO_INTENT)


def level_of(topic: Topic, mean: float | None) -> str:
    """Whether the share of wrong answers is certainly lower or higher than the mean of all topics."""
    if mean is None or topic.wrong_low is None or topic.wrong_high is None:
        return "none"
    if topic.wrong_low > mean:
        return "high"
    return "low" if topic.wrong_high < mean else "some"


@router.get("/tenants/{tenant_id}/topics/turns", dependencies=[viewer("administer")])
async def turns(view: Viewed, intent: str = NO_INTENT) -> Response:
    """The newest turns of a topic, with their texts."""
    await view.learner.status(view.tenant_id)  # raises UnknownTenant
    wanted = None if intent == NO_INTENT else intent
    found = await view.learner.store.newest_turns(view.tenant_id, limit=SEARCHED)
    shown = [one for one in reversed(found) if one.metadata.intent_detected == wanted][:SHOWN]
    return await view.page("turns.html", "Turns", turns=shown, intent=intent, searched=SEARCHED)
