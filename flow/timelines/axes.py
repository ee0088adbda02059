"""The axis of time: round marks, and times in words."""

from __future__ import annotations

import math

__all__ = ["grid_of", "span"]


def grid_of(seconds: float, most: int) -> list[tuple[float, str]]:
    """Marks at round times from 0 to `seconds`, at most `most` of them after the 0, each with its words."""
    if seconds <= 0 or most < 1:
        return [(0.0, "0")]
    step = _round(seconds / most)
    count = int(seconds / step + 1e-9)
    return [(0.0, "0"), *((i * step, _mark(i * step, step)) for i in range(1, count + 1))]


def _round(rough: float) -> float:
    """The next round time that is no shorter: 1, 2 or 5 of a power of ten, or parts of minutes and hours."""
    for fixed in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600):
        if rough > 0.5 and rough <= fixed:
            return float(fixed)
    if rough > 3600:
        return 3600.0 * _round_decimal(rough / 3600)
    return _round_decimal(rough)


def _round_decimal(rough: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))


def _mark(time: float, step: float) -> str:
    if step < 1e-3:
        return f"{time * 1e3:.{_digits(step * 1e3)}f} ms"
    if step < 0.1 and time < 1 - 1e-9:
        return f"{time * 1e3:.0f} ms"
    if step < 60:
        minutes, seconds = divmod(time, 60)
        if minutes:
            return f"{minutes:.0f}:{seconds:02.0f}"
        return f"{seconds:.{_digits(step)}f} s"
    hours, minutes = divmod(round(time / 60), 60)
    return f"{hours} h {minutes:02d}" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"


def _digits(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))


def span(seconds: float) -> str:
    """A time in words, with two or three digits."""
    seconds = max(0.0, seconds)
    if seconds < 0.001:
        return "<1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
