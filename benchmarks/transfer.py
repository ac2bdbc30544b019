"""Accuracy of new tenants with few texts, with and without a base version, on the telecom corpus.

    python benchmarks/transfer.py [--texts 1 3 10]

Half of the training texts build the base version. A new tenant learns so many texts of each intent from the
other half. Both are scored on the test texts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from karen_learner import create_autonomous_learner, load_settings
from karen_learner.base_builder import build_base
from karen_learner.corpora.corpus_file import CorpusFile

CORPUS = Path(__file__).parent.parent / "corpus" / "telecom"


def halves() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows = [json.loads(line) for line in (CORPUS / "train.jsonl").read_text("utf-8").splitlines()]
    random.Random(0).shuffle(rows)
    return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def few(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many texts of each intent."""
    taken: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row.get("intent") and len(taken[row["intent"]]) < count:
            taken[row["intent"]].append(row)
    return [row for some in taken.values() for row in some]


async def score(home: Path, rows: list[dict[str, Any]], count: int) -> dict[str, float]:
    """The accuracy of intents and the F1 of entities of a new tenant."""
    tenant = f"with {count} texts"
    async with create_autonomous_learner(home) as learner:
        await learner.bootstrap(tenant, few(rows, count))
        found = await learner.evaluate(tenant, CORPUS / "test.jsonl")
    return {
        name: round(value, 3) for name, value in found.scores.to_dict().items() if name.endswith("accuracy")
    }


async def main(counts: list[int]) -> dict[str, Any]:
    shared, own = halves()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "shared.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in shared), "utf-8")
        base = await build_base(Path(folder) / "with", load_settings(), [CorpusFile(file)])
        return {
            "base": base.to_dict()["scores"],
            **{
                f"{count} texts of each intent": {
                    kind: await score(Path(folder) / kind, own, count) for kind in ("with", "without")
                }
                for count in counts
            },
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, nargs="+", default=[1, 3, 10])
    print(json.dumps(asyncio.run(main(parser.parse_args().texts)), indent=2))
