"""How far a label that comes from a user is trusted: a number in 0..1.

Rating (the detected label, confirmed by a good rating of the answer):

    r       = (2 * satisfaction + response_quality) / 3, or the one that is given
    trust   = 0.6 + 0.4 * min(1, confidence / 0.6)
    quality = 0.9 * r * trust                   if r >= 0.5
            = 0                                 otherwise

A rating judges the answer; it says that the detected label was right only in so far as the model was
sure of it. Below 0.5 the label is unknown, whatever the threshold is. With the default threshold of
0.7, a rating of 0.8 passes from a confidence of 0.58 on, and a perfect one from 0.27 on.

Correction (the label that the user wrote):

    quality = 0.95, or 0.90 where it contradicts a label of which the model was at least 95 % sure

Agreement: each further user who says the same halves the doubt.

    quality = 1 - (1 - quality) / 2 ** further_users

Gold has quality 1.
"""

from __future__ import annotations

GOLD = 1.0
CORRECTION = 0.95
CONTRADICTING_CORRECTION = 0.90
VERY_CONFIDENT = 0.95

RATING_CEILING = 0.9
LOWEST_GOOD_RATING = 0.5
UNTRUSTED = 0.6
CONFIDENT_ENOUGH = 0.6


def combined_rating(satisfaction: float | None, response_quality: float | None) -> float | None:
    """The rating as one number in 0..1; the user's satisfaction counts double. None if there is none."""
    if satisfaction is None or response_quality is None:
        return response_quality if satisfaction is None else satisfaction
    return (2.0 * satisfaction + response_quality) / 3.0


def rating_quality(rating: float, confidence: float) -> float:
    """The quality of a detected label under a combined rating. See the formula above."""
    if rating < LOWEST_GOOD_RATING:
        return 0.0
    trust = UNTRUSTED + (1.0 - UNTRUSTED) * min(1.0, confidence / CONFIDENT_ENOUGH)
    return RATING_CEILING * rating * trust


def correction_quality(*, contradicted_confidence: float = 0.0) -> float:
    """The quality of a corrected label, given how sure the model was of another one (0: it was not)."""
    return CORRECTION if contradicted_confidence < VERY_CONFIDENT else CONTRADICTING_CORRECTION


def agreed_quality(quality: float, further_users: int) -> float:
    """`quality` after so many further users said the same."""
    return 1.0 - (1.0 - quality) / 2.0**further_users
