"""Numbers of a run as the page writes them; what is no number of a run is written as a dash."""

from __future__ import annotations

__all__ = ["MOST", "NONE", "bytes_text", "finite_number", "number_text", "percent_text"]

#: Where there is no number.
NONE = "–"  # noqa: RUF001
#: Far beyond what any run measures, and far below where sums and products overflow.
MOST = 1e100
_UNITS = ("B", "kB", "MB", "GB", "TB")


def finite_number(value: object) -> float | None:
    """Return a stored value, a number or its text, as a number of at most `MOST`; else None."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) <= MOST else None


def number_text(value: object) -> str:
    """Return ``value`` with four significant digits; whole numbers below a billion whole."""
    number = finite_number(value)
    if number is None:
        return NONE
    return f"{number:.0f}" if number == round(number) and abs(number) < 1e9 else f"{number:.4g}"


def percent_text(share: object) -> str:
    """Return a share in [0, 1] as a percentage with one decimal."""
    number = finite_number(share)
    return NONE if number is None else f"{100 * number:.1f} %"


def bytes_text(count: float) -> str:
    """Return a number of bytes with a decimal unit."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} B" if unit == 0 else f"{count:.3g} {_UNITS[unit]}"
