"""The command line `karen-learner`. Thin: it parses, calls a learner, and renders."""

from karen_learner.cli.app import app, main

__all__ = ["app", "main"]
