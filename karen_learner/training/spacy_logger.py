"""`karen_learner.JsonlLogger.v1`: the table of `spacy train`, also as JSON lines."""

import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import IO, Any

from spacy.language import Language
from spacy.training.loggers import console_logger

LogStep = Callable[[Mapping[str, Any] | None], None]
Logger = Callable[[Language, IO[str], IO[str]], tuple[LogStep, Callable[[], None]]]


def jsonl_logger(path: str | Path, progress_bar: bool = False) -> Logger:
    """Print the table of spaCy's console logger, and append each of its rows to `path` as a JSON line.

    A line has the `run` (start time and process id), `epoch`, `step` and the `words` trained so far. It also
    has the `seconds` since the start (with evaluation), `losses` by pipe, the `score` and its `scores`.
    Earlier lines stay: several trainings may share a file, even at the same time.
    """

    def set_up(nlp: Language, stdout: IO[str], stderr: IO[str]) -> tuple[LogStep, Callable[[], None]]:
        log = Path(path)
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("ab", buffering=0)  # a line is one write, so that lines of two runs do not mix
        print_row, finish_table = console_logger(progress_bar)(nlp, stdout, stderr)
        started = perf_counter()
        run = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}-{os.getpid()}"

        def log_step(info: Mapping[str, Any] | None) -> None:
            print_row(info)
            if info is not None:
                line = {
                    "run": run,
                    "epoch": info["epoch"],
                    "step": info["step"],
                    "words": info["words"],
                    "seconds": round(perf_counter() - started, 3),
                    "losses": {pipe: float(loss) for pipe, loss in info["losses"].items()},
                    "score": float(info["score"]),
                    "scores": info["other_scores"],
                }
                file.write(json.dumps(line).encode() + b"\n")

        def finish() -> None:
            finish_table()
            file.close()

        return log_step, finish

    return set_up
