"""Progress bars. Commands import this module lazily: `--help` needs no pydantic."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress, TaskID

from karen_learner.cli.output import Output
from karen_learner.events import Event, StageStarted, TrainingProgressed

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner

logger = logging.getLogger(__name__)

LINES_PER_UPDATE = 100
CHUNK_BYTES = 1 << 20


class LearningProgress:
    """A subscriber that shows a bar for each stage and each trained task."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._stage: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            self._show_stage(event)
        elif isinstance(event, TrainingProgressed):
            self._show_pass(event)

    def _show_stage(self, event: StageStarted) -> None:
        logger.info("cycle %s: %s", event.cycle_id, event.stage)
        if self._stage is not None:
            self._bars.update(self._stage, total=1, completed=1)
        self._stage = self._bars.add_task(event.stage, total=None, details="")

    def _show_pass(self, event: TrainingProgressed) -> None:
        name = event.task if event.shadow is None else f"{event.task}, shadow {event.shadow + 1}"
        details = f"loss {event.loss:.3g}, {event.words_per_second:,.0f} words/s"
        logger.debug("%s: pass %d of %d, %s", name, event.iteration, event.total, details)
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(f"  {name}", total=event.total, details="")
        self._bars.update(self._tasks[name], completed=event.iteration, details=details)


@asynccontextmanager
async def learning_progress(output: Output, learner: AutonomousLearner) -> AsyncIterator[None]:
    """Show bars for the stages and passes of cycles while the block runs."""
    with output.progress() as bars:
        unsubscribe = learner.events.subscribe(LearningProgress(bars))
        try:
            yield
            await learner.events.drain()
        finally:
            unsubscribe()


@contextmanager
def line_progress(output: Output, path: Path) -> Iterator[Callable[[int], None]]:
    """Show a bar for the lines of a file. The value is a callback for the number of lines read."""
    with output.progress() as bars:
        bar = bars.add_task("reading", total=None if bars.disable else count_lines(path), details="")

        def on_lines(count: int) -> None:
            if count % LINES_PER_UPDATE == 0:
                bars.update(bar, completed=count)

        yield on_lines


@contextmanager
def text_progress(output: Output) -> Iterator[Callable[[int, int], None]]:
    """Show a bar for analysed texts. The value is a callback for the numbers of analysed and of all texts."""
    with output.progress() as bars:
        bar = bars.add_task("analysing", total=None, details="")
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def count_lines(path: Path) -> int | None:
    """Number of lines of a text file; None for a folder, a pipe, a binary and a compressed file."""
    if not path.is_file() or path.suffix in (".spacy", ".gz", ".zip"):
        return None
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))
