"""Understanding: intents, sentiments and entities of turns, judged by feedback."""

from __future__ import annotations

from collections.abc import Iterator

from karen_learner.improvement.samples import Metric, Samples, Source, cluster_of
from karen_learner.monitoring.scores import outcome_of
from karen_learner.records import Turn
from karen_learner.records.texts import person_of

METRICS = (
    Metric("intent_accuracy"),
    Metric("sentiment_accuracy"),
    Metric("entity_accuracy"),
    Metric("correction_rate", "lower"),
    Metric("fallback_rate", "lower"),
    Metric("out_of_scope_rate", "lower"),
    Metric("satisfaction"),
    Metric("response_quality"),
    Metric("feedback_rate", "neutral"),
    Metric("intent_confidence", "neutral"),
)


async def understanding(source: Source) -> dict[str, Samples]:
    """Accuracies of the answers that feedback corrects or confirms, and rates over all turns.

    Feedback selects the judged answers: an accuracy here is not that of all turns.
    """
    samples, span = Samples(METRICS, source.max_ids), source.span
    async for page in source.store.turns_between(source.tenant_id, span.start, span.end):
        for turn in page:
            side = span.side(turn.metadata.occurred_at)
            if side is not None:
                person = person_of(turn.metadata.user_id, turn.turn_id) or ""
                samples.add(side, cluster_of(person), observations(turn), turn.turn_id)
    return {"understanding": samples}


def observations(turn: Turn) -> Iterator[tuple[str, float | bool | None]]:
    """The observations of one turn."""
    found, feedback = turn.metadata, turn.feedback
    yield "fallback_rate", found.degraded
    yield "out_of_scope_rate", turn.out_of_scope
    yield "feedback_rate", feedback is not None
    yield "intent_confidence", None if found.degraded else found.intent_confidence
    yield "satisfaction", found.user_satisfaction
    yield "response_quality", found.response_quality
    outcome = outcome_of(turn)
    if feedback is None or outcome is None:
        return
    yield "correction_rate", None if outcome.score is None else outcome.score < 1.0
    yield "intent_accuracy", _intent_score(turn, outcome.score)
    if feedback.corrected_sentiment is not None:
        yield "sentiment_accuracy", feedback.corrected_sentiment == found.sentiment_detected
    if feedback.corrected_entities is not None:
        corrected = {(span.start, span.end, span.label) for span in feedback.corrected_entities}
        yield "entity_accuracy", corrected == {(one.start, one.end, one.label) for one in turn.entities}


def _intent_score(turn: Turn, score: float | None) -> float | None:
    """The score of the intent: that of the outcome, unless only other labels are corrected."""
    if turn.feedback is not None and turn.feedback.is_correction and turn.feedback.corrected_intent is None:
        return None
    return score
