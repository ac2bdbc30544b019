"""The data of a cycle on disk: lines for the worker, below the folder of the cycle."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from karen_learner.corpora.lines import write_lines
from karen_learner.curation import Curated
from karen_learner.curation.folds import FoldPlan
from karen_learner.models.files import remove_folder
from karen_learner.records import Example, LabelledText, utc_now

TRAIN_LINES, REPLAY_LINES = "train.jsonl", "replay.jsonl"
JUDGED_LINES = "judged.jsonl"
"""The judged texts, then the recent texts, with the shadow of each."""
PROBE_LINES = "probe.jsonl"
"""The recent texts, then some judged texts: the candidate itself answers for them."""
CALIBRATION = "calibration"
PROBED_JUDGED_TEXTS = 20


async def write_training_lines(folder: Path, curated: Curated, held_out: Mapping[str, int]) -> None:
    """Write the new examples and the replay pool, with the shadows that do not learn from each."""
    whole, pool = _parts(curated)
    await write_lines(
        folder / TRAIN_LINES, whole, held_out=[held_out.get(one.example_id, 0) for one in whole]
    )
    await write_lines(
        folder / REPLAY_LINES,
        pool,
        held_out=[held_out.get(one.example_id, 0) for one in pool],
        importance_weight=curated.importance_weights or (),
    )


def _parts(curated: Curated) -> tuple[Sequence[Example], Sequence[Example]]:
    """The examples to learn, and the pool to replay from."""
    if curated.importance_weights is None:
        return (*curated.new, *curated.replay), ()
    return curated.new, curated.replay


def training_lines_of(curated: Curated, ids: Collection[str]) -> dict[str, tuple[int, ...]]:
    """The numbers of the lines of these examples, by file."""
    return {
        name: tuple(line for line, one in enumerate(part) if one.example_id in ids)
        for name, part in zip((TRAIN_LINES, REPLAY_LINES), _parts(curated), strict=True)
    }


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


def remove_corpora(folder: Path) -> int:
    """Remove the corpora of all cycles of a tenant; the number of files. Blocking."""
    files = sum(path.is_file() for path in folder.rglob("*"))
    remove_folder(folder)
    return files


def remove_old_corpora(folder: Path, *, keep: str | None, retention_days: float) -> None:
    """Remove the raw lines of all cycles (their DocBin files stay), and expired cycles."""
    for lines in folder.rglob("*.jsonl"):
        lines.unlink()
    oldest = utc_now().timestamp() - timedelta(days=retention_days).total_seconds()
    for path in folder.glob("*"):
        if path.is_dir() and path.name != keep and path.stat().st_mtime < oldest:
            remove_folder(path)
