"""Components: parts of a system that are analysed. A function collects the samples of one or several."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from karen_learner.improvement.components.answering import answering
from karen_learner.improvement.components.learning import learning
from karen_learner.improvement.components.production import production
from karen_learner.improvement.components.stream import stream
from karen_learner.improvement.components.understanding import understanding
from karen_learner.improvement.samples import Samples, Source

Collect = Callable[[Source], Awaitable[dict[str, Samples]]]
"""The samples of components, by name."""

COMPONENTS: Mapping[str, Collect] = {
    "understanding": understanding,
    "learning": learning,
    "answering": answering,
    "stream": stream,
    "production log": production,
}
