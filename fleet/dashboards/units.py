"""Values as Grafana writes them, for the units that our panels use."""

from __future__ import annotations

import math
from collections.abc import Callable

_SECONDS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_LENGTHS = ((1.0, "m"), (1e-3, "mm"))
_BYTES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_SHORT = ((1e9, "Bil"), (1e6, "Mil"), (1e3, "K"), (1.0, ""))
_RATE = ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s"))


def written(value: float, unit: str, decimals: int | None = None) -> str:
    """Return a value with its unit.

    Raises:
        KeyError: no panel of ours uses this unit.
    """
    return "-" if not math.isfinite(value) else _WRITERS[unit](value, decimals)


def _plain(value: float, decimals: int | None) -> str:
    if decimals is None:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{value:.{decimals}f}"


def _with(suffix: str) -> Callable[[float, int | None], str]:
    return lambda value, decimals: f"{_plain(value, decimals)} {suffix}"


def _scaled(scale: tuple[tuple[float, str], ...]) -> Callable[[float, int | None], str]:
    def write(value: float, decimals: int | None) -> str:
        fitting = (one for one in scale if abs(value) >= one[0])
        base = next(one for one in scale if one[0] == 1.0)
        size, name = next(fitting, scale[-1]) if value else base
        kept = decimals if size == 1.0 else None
        return f"{_plain(value / size, kept)} {name}".rstrip()

    return write


def _percent(value: float, decimals: int | None) -> str:
    return f"{100 * value:.{0 if decimals is None else decimals}f}%"


def _yes_no(value: float, decimals: int | None) -> str:
    return "Yes" if value else "No"


_WRITERS: dict[str, Callable[[float, int | None], str]] = {
    "none": _plain,
    "short": _scaled(_SHORT),
    "percentunit": _percent,
    "s": _scaled(_SECONDS),
    "bytes": _scaled(_BYTES),
    "Bps": _scaled(_RATE),
    "lengthm": _scaled(_LENGTHS),
    "hertz": _with("Hz"),
    "celsius": _with("°C"),
    "pixel": _with("px"),
    "bool_yes_no": _yes_no,
}
