"""Count the package files that run code during one conversation turn and one learning cycle.

    python tools/trace_files.py            # counts
    python tools/trace_files.py --list     # counts and file names

A file counts if one of its functions is called. Module bodies do not count. The learner is warm: it is
bootstrapped, and one turn and one cycle precede the traced ones. The worker process is not traced.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import karen_learner
from karen_learner import create_autonomous_learner

PACKAGE = Path(karen_learner.__file__).parent
CORPUS = PACKAGE.parent / "corpus" / "telecom" / "train.jsonl"
TENANT = "traced"
SEED_TEXTS = 200
TURNS = 60


class Tracer:
    """Collects the package files whose functions are called, in every thread that starts after it."""

    def __init__(self) -> None:
        self._files: set[str] | None = None
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, _argument: Any) -> None:
        if self._files is not None and event == "call" and frame.f_code.co_name != "<module>":
            self._files.add(frame.f_code.co_filename)

    @contextmanager
    def files(self) -> Iterator[set[str]]:
        """Names of files, relative to the package; complete when the block ends."""
        found: set[str] = set()
        self._files = set()
        try:
            yield found
        finally:
            names, self._files = self._files, None
            found |= {str(Path(name).relative_to(PACKAGE)) for name in names if name.startswith(str(PACKAGE))}


async def measure() -> dict[str, set[str]]:
    """The files of one turn and of one cycle."""
    lines = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    gold = [
        {key: line[key] for key in ("text", "intent", "sentiment", "entities") if key in line}
        for line in lines
    ]
    counts: dict[str, set[str]] = {}
    tracer = Tracer()
    with tempfile.TemporaryDirectory() as home:
        # On a busy machine the check of the champion in the background would fall into the traced turn.
        overrides = {"learning.min_data_threshold": 10, "serving.refresh_s": 3600.0}
        async with create_autonomous_learner(home, overrides=overrides) as learner:
            await learner.bootstrap(TENANT, gold[:SEED_TEXTS])

            async def turn(position: int) -> None:
                line = gold[SEED_TEXTS + position]
                await learner.collect_conversation_metadata(
                    TENANT, line["text"], "An answer.", f"user-{position}",
                    {"corrected_intent": line["intent"], "satisfaction_score": 0.9},
                    turn_id=f"turn-{position}",
                )  # fmt: skip

            await turn(0)
            with tracer.files() as counts["turn"]:
                await turn(1)
            for position in range(2, TURNS):
                await turn(position)
            await learner.trigger_learning_cycle(TENANT)
            for position in range(TURNS, 2 * TURNS):
                await turn(position)
            with tracer.files() as counts["cycle"]:
                await learner.trigger_learning_cycle(TENANT)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the file names")
    arguments = parser.parse_args()
    for name, files in asyncio.run(measure()).items():
        packages = {file.rpartition("/")[0] or "." for file in files}
        print(f"{name}: {len(files)} files in {len(packages)} packages")
        if arguments.list:
            print("\n".join(f"    {file}" for file in sorted(files)))


if __name__ == "__main__":
    main()
