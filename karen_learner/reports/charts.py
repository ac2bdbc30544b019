"""Charts as SVG without scripts, styles or texts of users. Colours follow the text colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDTH, HEIGHT = 160, 18
LINE_WIDTH, LINE_HEIGHT = 300, 90
MARGIN = 6


def interval_chart(change: float | None, low: float | None, high: float | None) -> str:
    """A change with its interval beside a line at zero; empty without an interval."""
    if low is None or high is None or not math.isfinite(high - low):
        return ""
    change = change if change is not None and math.isfinite(change) else None
    reach = max(abs(low), abs(high), abs(change or 0.0)) or 1.0

    def x(value: float) -> str:
        return f"{WIDTH / 2 + value / reach * (WIDTH / 2 - MARGIN):.1f}"

    middle = HEIGHT // 2
    dot = "" if change is None else f'<circle cx="{x(change)}" cy="{middle}" r="4" fill="currentColor"/>'
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">'
        f'<line x1="{x(0)}" y1="1" x2="{x(0)}" y2="{HEIGHT - 1}" stroke="currentColor" '
        f'stroke-dasharray="2 2"/>'
        f'<line x1="{x(low)}" y1="{middle}" x2="{x(high)}" y2="{middle}" stroke="currentColor" '
        f'stroke-width="2"/>{dot}</svg>'
    )


def line_chart(values: Sequence[float]) -> str:
    """Values in order, from the smallest to the largest one; empty for no value."""
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return ""
    least, most = min(values), max(values)
    span, steps = most - least, max(1, len(values) - 1)
    points = [
        (
            MARGIN + number / steps * (LINE_WIDTH - 2 * MARGIN),
            LINE_HEIGHT - MARGIN - ((value - least) / span if span else 0.5) * (LINE_HEIGHT - 2 * MARGIN),
        )
        for number, value in enumerate(values)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="currentColor"/>' for x, y in points)
    return (
        f'<svg width="{LINE_WIDTH}" height="{LINE_HEIGHT}" viewBox="0 0 {LINE_WIDTH} {LINE_HEIGHT}" '
        f'aria-hidden="true"><polyline points="{path}" fill="none" stroke="currentColor" stroke-width="2"/>'
        f"{dots}</svg>"
    )
