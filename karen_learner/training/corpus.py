"""The data of a cycle on disk: lines for the worker, below the folder of the cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from karen_learner.corpora.lines import write_lines
from karen_learner.curation import Curated
from karen_learner.curation.folds import FoldPlan
from karen_learner.models.files import remove_folder
from karen_learner.records import Example, LabelledText, utc_now

JUDGED_LINES = "judged.jsonl"
"""The judged texts, then the recent texts, with the shadow of each."""
PROBE_LINES = "probe.jsonl"
"""The recent texts, then some judged texts: the candidate itself answers for them."""
CALIBRATION = "calibration"
PROBED_JUDGED_TEXTS = 20


async def write_training_lines(folder: Path, curated: Curated, held_out: Mapping[str, int]) -> None:
    """Write the new examples and the replay pool, with the shadows that do not learn from each."""
    weights = curated.importance_weights
    pool = curated.replay if weights is not None else ()
    whole = curated.new if weights is not None else (*curated.new, *curated.replay)
    await write_lines(
        folder / "train.jsonl", whole, held_out=[held_out.get(one.example_id, 0) for one in whole]
    )
    await write_lines(
        folder / "replay.jsonl",
        pool,
        held_out=[held_out.get(one.example_id, 0) for one in pool],
        importance_weight=weights or (),
    )


async def write_corpus(folder: Path, curated: Curated, folds: FoldPlan, recent: Sequence[str]) -> None:
    """Write the new examples, the replay pool, and the judged and recent texts."""
    await write_training_lines(folder, curated, folds.held_out)
    turns = [LabelledText(text=text) for text in recent]
    judged = folds.judged
    by_turn = [at % folds.shadows for at in range(len(turns))]
    await write_lines(folder / JUDGED_LINES, [*judged.examples, *turns], shadow=[*judged.shadows, *by_turn])
    await write_lines(folder / PROBE_LINES, [LabelledText(text=text) for text in probe_texts(recent, folds)])


async def write_update_lines(
    folder: Path, curated: Curated, gold: Sequence[Example], recent: Sequence[str]
) -> Path:
    """Write the lines of a micro-update; the file of the `gold` texts, then the `recent` ones."""
    await write_training_lines(folder, curated, {})
    texts = [*gold, *(LabelledText(text=text) for text in recent)]
    await write_lines(folder / JUDGED_LINES, texts, shadow=[0] * len(texts))
    return folder / JUDGED_LINES


def probe_texts(recent: Sequence[str], folds: FoldPlan) -> tuple[str, ...]:
    """The recent texts, then some judged texts."""
    return (*recent, *(example.text for example in folds.judged.examples[:PROBED_JUDGED_TEXTS]))


def remove_old_corpora(folder: Path, *, keep: str | None, retention_days: float) -> None:
    """Remove the raw lines of all cycles (their DocBin files stay), and expired cycles."""
    for lines in folder.rglob("*.jsonl"):
        lines.unlink()
    oldest = utc_now().timestamp() - timedelta(days=retention_days).total_seconds()
    for path in folder.glob("*"):
        if path.is_dir() and path.name != keep and path.stat().st_mtime < oldest:
            remove_folder(path)
