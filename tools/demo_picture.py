"""The picture of the demo in README: its output, run now, as SVG.

    python tools/demo_picture.py docs/demo.svg

Run it on a machine without other work: the picture shows the seconds of each cycle.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 120


def main(target: Path) -> None:
    """Run the demo in a temporary folder, and write its output."""
    environment = os.environ | {"COLUMNS": str(WIDTH), "FORCE_COLOR": "1"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "karen_learner.cli", "demo"],
            cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_ansi(done.stdout))
    console.save_svg(str(target), title="karen-learner demo")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", type=Path, help="the SVG file")
    main(parser.parse_args().target)
