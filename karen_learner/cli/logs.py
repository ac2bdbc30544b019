"""Log messages of the commands on standard error; by default warnings only."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from karen_learner.cli.output import Output

PACKAGE = "karen_learner"
WARNINGS = "py.warnings"
STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "bold red"}


class LogHandler(logging.Handler):
    """Prints a record as one line. `debug` adds the trace."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output
        self.debug = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"[{record.levelname.lower()}] {self._message(record)}"
            self._output.note(line, style=STYLES.get(record.levelno, "dim"))
            if self.debug and record.exc_info:
                self._output.trace(logging.Formatter().formatException(record.exc_info))
        except Exception:  # a log line must not end the command
            self.handleError(record)

    def _message(self, record: logging.LogRecord) -> str:
        lines = record.getMessage().splitlines() or [""]
        message = " | ".join(lines) if self.debug else lines[0]
        cause = record.exc_info[1] if record.exc_info else None
        return message if cause is None else f"{message}: {type(cause).__name__}: {cause}"


@contextmanager
def logging_to(output: Output) -> Iterator[LogHandler]:
    """Print log records and Python warnings to `output` while the block runs."""
    handler = LogHandler(output)
    root, package, warnings = logging.getLogger(), logging.getLogger(PACKAGE), logging.getLogger(WARNINGS)
    before = package.level, warnings.level
    root.addHandler(handler)
    logging.captureWarnings(True)
    set_verbosity(handler, verbose=False, debug=False)
    try:
        yield handler
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        package.setLevel(before[0])
        warnings.setLevel(before[1])


def set_verbosity(handler: LogHandler, *, verbose: bool, debug: bool) -> None:
    """Set the log level of this package. Other libraries log from WARNING."""
    handler.debug = debug
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    logging.getLogger(PACKAGE).setLevel(level)
    logging.getLogger(WARNINGS).setLevel(logging.WARNING if verbose or debug else logging.ERROR)
