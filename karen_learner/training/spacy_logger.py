"""`karen_learner.JsonlLogger.v1`: what `spacy train` tells, as a table to read and as lines for a machine."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import IO, Any

from spacy.language import Language
from spacy.training.loggers import console_logger

LogStep = Callable[[Mapping[str, Any] | None], None]
Logger = Callable[[Language, IO[str], IO[str]], tuple[LogStep, Callable[[], None]]]


def jsonl_logger(path: str | Path, progress_bar: bool = False) -> Logger:
    """Print the table of spaCy's console logger, and write each of its rows to `path` as a line of JSON.

    A line has `epoch`, `step`, the `words` trained on so far, the `seconds` since the beginning (evaluation
    included), `losses` by pipe, the `score`, and the `scores` of which it is made. Each training begins the
    file anew. A row is in the file when it is printed.
    """

    def set_up(nlp: Language, stdout: IO[str], stderr: IO[str]) -> tuple[LogStep, Callable[[], None]]:
        log = Path(path)
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("w", encoding="utf-8")
        print_row, finish_table = console_logger(progress_bar)(nlp, stdout, stderr)
        begun = perf_counter()

        def log_step(info: Mapping[str, Any] | None) -> None:
            print_row(info)
            if info is not None:
                file.write(json.dumps(_row(info, perf_counter() - begun)) + "\n")
                file.flush()

        def finish() -> None:
            finish_table()
            file.close()

        return log_step, finish

    return set_up


def _row(info: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "epoch": info["epoch"],
        "step": info["step"],
        "words": info["words"],
        "seconds": round(seconds, 3),
        "losses": {pipe: float(loss) for pipe, loss in info["losses"].items()},
        "score": None if info["score"] is None else float(info["score"]),
        "scores": info["other_scores"],
    }
