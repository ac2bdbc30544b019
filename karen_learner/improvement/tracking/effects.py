"""Effect of a change on the mean of a metric, from sums by user before and after it. Pure.

`holdback_effect` compares the users with the change and a random share of users without it. Values of one
user are dependent, so errors are clustered by user: HC3 errors of user means, with the degrees of freedom of
Bell and McCaffrey (*Survey Methodology* 28, 2002). The period before is a covariate, which makes errors
smaller (CUPED: Deng, Xu, Kohavi and Walker, *Improving the sensitivity of online controlled experiments by
utilizing pre-experiment data*, WSDM 2013).

`series_effect` compares the periods before and after of one tenant, less the mean change of tenants without
a change. It is not causal: another cause at the same time looks like an effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from karen_learner.improvement.tracking.shrinkage import random_effects
from karen_learner.metrics import Z_95, Interval, student_quantile

Floats = NDArray[np.float64]

PRIOR_VALUES = 2.0
"""Values at the overall mean that are added to the mean of a user before, which may have few values."""
MIN_USERS = 5
"""Users on each side. With fewer an interval says nothing."""
MIN_CONTROLS = 3
"""Control tenants. Fewer show little about other causes, and would show the change of a single tenant."""
POWER_80 = Z_95 + NormalDist().inv_cdf(0.8)


@dataclass(frozen=True, kw_only=True)
class UserTotals:
    """Sum and number of the values of a metric for each user, in the period and in the one before: (users,).

    `kept` marks the users without the change.
    """

    total: Floats
    count: Floats
    total_before: Floats
    count_before: Floats
    kept: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A change of a mean with its standard error and degrees of freedom, in the unit of the metric.

    `before` is the mean without the change, `after` the mean with it.
    """

    change: float
    standard_error: float
    degrees: float
    before: float
    after: float
    users_changed: int
    users_kept: int
    observations: int
    controls: int = 0

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the change."""
        half = student_quantile(0.975, self.degrees) * self.standard_error
        return (self.change - half, self.change + half)

    @property
    def smallest_effect(self) -> float:
        """The effect that data of this size show with 80 % power, two-sided at 5 %."""
        return POWER_80 * self.standard_error


def holdback_effect(users: UserTotals) -> Estimate | None:
    """The effect on users with the change against kept users; None with fewer than 5 on a side."""
    seen = users.count > 0
    kept, count = users.kept[seen], users.count[seen]
    if min(kept.sum(), (~kept).sum()) < MIN_USERS:
        return None
    mean = users.total[seen] / count
    covariate = _covariate(users.total_before[seen], users.count_before[seen])
    columns = [np.ones(len(mean)), (~kept).astype(float)]
    if np.ptp(covariate) > 0.0:
        columns.append(covariate)
    change, error, degrees = _contrast(np.column_stack(columns), mean, count)
    return Estimate(
        change=change,
        standard_error=error,
        degrees=degrees,
        before=float(np.average(mean[kept], weights=count[kept])),
        after=float(np.average(mean[~kept], weights=count[~kept])),
        users_changed=int((~kept).sum()),
        users_kept=int(kept.sum()),
        observations=int(count.sum()),
    )


def series_effect(users: UserTotals, controls: Sequence[Estimate] = ()) -> Estimate | None:
    """The change between both periods, less the mean change of the control tenants; None with few users.

    Controls are estimates of this function without controls. Fewer than `MIN_CONTROLS` are not used. The
    changes of tenants differ: their variance is that of a random-effects model.
    """
    own = _change_in_time(users)
    if own is None or len(controls) < MIN_CONTROLS:
        return own
    errors = np.array([one.standard_error for one in controls])
    common = random_effects(np.array([one.change for one in controls]), errors)
    variances = (own.standard_error**2, common.predictive_variance)
    degrees = sum(variances) ** 2 / (
        variances[0] ** 2 / own.degrees + variances[1] ** 2 / (len(controls) - 1) or math.inf
    )
    return Estimate(
        change=own.change - common.mean,
        standard_error=math.sqrt(sum(variances)),
        degrees=max(1.0, degrees),
        before=own.before,
        after=own.after,
        users_changed=own.users_changed,
        users_kept=0,
        observations=own.observations,
        controls=len(controls),
    )


def _covariate(total: Floats, count: Floats) -> Floats:
    """The mean of each user before, shrunk towards the overall mean, less the overall mean: (users,)."""
    values = count.sum()
    if not values:
        return np.zeros(len(count))
    mean = total.sum() / values
    found: Floats = (total - mean * count) / (count + PRIOR_VALUES)
    return found


def _contrast(design: Floats, mean: Floats, weight: Floats) -> tuple[float, float, float]:
    """The second coefficient of a weighted regression of user means, its error and degrees of freedom.

    `design` is (users, columns).
    """
    root = np.sqrt(weight)
    x, y = design * root[:, None], mean * root
    inverse = np.linalg.pinv(x.T @ x)
    coefficients = inverse @ (x.T @ y)
    residual = y - x @ coefficients
    leverage = np.minimum(np.einsum("ij,jk,ik->i", x, inverse, x), 1.0 - 1e-9)
    share = (x @ inverse[:, 1]) ** 2 / (1.0 - leverage)
    variance = float(share / (1.0 - leverage) @ residual**2)
    trace = float(share @ (1.0 - leverage))
    outer = np.einsum("i,ij,ik->jk", share, x, x)
    square = float(np.trace(inverse @ outer @ inverse @ outer) + share**2 @ (1.0 - 2.0 * leverage))
    return float(coefficients[1]), math.sqrt(variance), trace**2 / square


def _change_in_time(users: UserTotals) -> Estimate | None:
    """The difference of both means, with errors clustered by user (delta method)."""
    after, before = users.count > 0, users.count_before > 0
    if min(after.sum(), before.sum()) < MIN_USERS:
        return None
    means = [
        float(total.sum() / count.sum())
        for total, count in ((users.total, users.count), (users.total_before, users.count_before))
    ]
    influence = (users.total - means[0] * users.count) / users.count.sum()
    influence -= (users.total_before - means[1] * users.count_before) / users.count_before.sum()
    seen = after | before
    number = int(seen.sum())
    variance = float((influence**2).sum()) * number / (number - 1)
    sizes = (users.count + users.count_before)[seen]
    return Estimate(
        change=means[0] - means[1],
        standard_error=math.sqrt(variance),
        degrees=max(1.0, float(sizes.sum() ** 2 / (sizes**2).sum()) - 1.0),
        before=means[1],
        after=means[0],
        users_changed=int(after.sum()),
        users_kept=0,
        observations=int(users.count.sum()),
    )
