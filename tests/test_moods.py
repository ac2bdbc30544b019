"""From labelled conversations to a model that hears the turns before a text: the whole way."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

from karen_learner import create_autonomous_learner

TENANT = "acme"
PLAIN = [
    "well",
    "okay",
    "fine",
    "right",
    "sure",
    "so",
    "then",
    "now",
    "this",
    "that",
    "maybe",
    "again",
    "really",
    "just",
    "there",
    "here",
    "what",
    "when",
    "where",
    "how",
    "who",
    "why",
    "which",
    "some",
    "any",
    "each",
    "both",
    "more",
    "most",
    "much",
]
LOUD = {"negative": ("terrible", "awful", "horrible"), "positive": ("wonderful", "great", "lovely")}


def labelled_conversations() -> list[dict[str, Any]]:
    """Plain words, which mean what the turns before meant, and loud ones, which mean the same anywhere."""
    plain = [" ".join(pair) for pair in combinations(PLAIN, 2)]
    sides = ("negative", "positive")
    lines: list[dict[str, Any]] = [
        {"text": text, "sentiment": sides[number % 2], "mood": {sides[number % 2]: 0.2 + number % 5 / 10}}
        for number, text in enumerate(plain)
    ]
    return lines + [
        {"text": f"{word} {other}", "sentiment": side}
        for side, words in LOUD.items()
        for word in words
        for other in PLAIN
    ]


async def test_what_a_mood_says_is_learned_from_gold(tmp_path: Path) -> None:
    async with create_autonomous_learner(home=tmp_path / "home") as learner:
        first = await learner.bootstrap(TENANT, labelled_conversations())
        assert first.status == "deployed", first.error_message
        for side, words in LOUD.items():
            for word in words[:2]:
                await learner.collect_conversation_metadata(
                    TENANT, f"this is {word}", "I see", "u", conversation_id=side
                )
        heard = {
            side: (await learner.analyze(TENANT, "and so", conversation_id=side)).sentiment for side in LOUD
        }
        assert heard == {"negative": "negative", "positive": "positive"}
        turn = await learner.collect_conversation_metadata(
            TENANT, "and so", "", "u", {"corrected_sentiment": "positive"}, conversation_id="negative"
        )
        stored = await learner.store.get_turn(TENANT, turn.turn_id)
        assert stored is not None
        assert stored.mood["negative"] > 0.2

        await learner.export(TENANT, tmp_path / "examples.jsonl")
        told = [json.loads(line) for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
        given = {line["text"]: line.get("mood") for line in labelled_conversations()}
        assert {line["text"]: line.get("mood") for line in told} == given

        again = await learner.ingest("another", tmp_path / "examples.jsonl")
        assert again.skipped_count == 0
        moods = [example.mood async for example in learner.store.examples("another", state="pending")]
        assert sum(map(bool, moods)) == sum(map(bool, given.values()))
