"""The risk of deployments without a gain: each decision spends a part of a wealth of 10 %. Pure.

Repeated decisions on the same texts raise the chance that one of them errs. So all decisions share a wealth,
as in alpha-investing (Foster and Stine, *Journal of the Royal Statistical Society B* 70, 2008). The
significance levels of all decisions on the same judged texts add up to at most the wealth. By Bonferroni's
inequality this bounds the chance of deploying a candidate without a gain. Fresh judged texts refill the
wealth.

The bound does not cover a person who chooses data or settings by the scores on the judged texts (Dwork et
al., *The reusable holdout*, Science 349, 2015), nor versions that serve before their decision.
"""

from __future__ import annotations

from collections.abc import Iterable

from karen_learner.records import Example, Risk

WEALTH = 0.10
"""The initial wealth, which is also its upper bound."""
SPENT_SHARE = 0.10
"""The share of the wealth that a decision spends."""


def next_risk(last: Risk | None, judged: Iterable[Example], *, new_examples: bool) -> Risk:
    """The risk of the next decision. `last` is that of the last decision, None for the first one.

    `judged` are the judged texts; only gold counts. The wealth grows by `WEALTH` times the share of gold
    that is fresh, up to `WEALTH`: newer than the gold of the last decision, or reviewed since. Without new
    examples the decision spends nothing.
    """
    gold = [example.seq or 0 for example in judged if example.is_gold]
    before = WEALTH if last is None else _refilled(last, gold)
    spent = before * SPENT_SHARE if new_examples else 0.0
    newest, most = max(gold, default=0), len(gold)
    if last is not None:
        newest, most = max(newest, last.newest_seq), max(most, last.judged)
    return Risk(before=before, spent=spent, after=before - spent, judged=most, newest_seq=newest)


def _refilled(last: Risk, gold: list[int]) -> float:
    fresh = max(sum(seq > last.newest_seq for seq in gold), len(gold) - last.judged)
    return min(WEALTH, last.after + WEALTH * fresh / len(gold)) if gold else last.after
