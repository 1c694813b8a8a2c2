"""Numbers of a run as the page writes them; what is no number of a run is written as a dash."""

from __future__ import annotations

__all__ = [
    "MOST",
    "NONE",
    "bytes_text",
    "finite_number",
    "number_text",
    "percent_text",
    "result_number",
    "result_text",
]

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


def result_number(name: str, value: object) -> float | None:
    """Return the result ``name`` of a run as a number; None where no run can have such a one.

    Accuracies are shares in [0, 1], sample counts whole numbers from 1.
    """
    number = finite_number(value)
    if number is None:
        return None
    if name.endswith("_accuracy"):
        return number if 0 <= number <= 1 else None
    if name.endswith("_samples"):
        return number if number >= 1 and number == round(number) else None
    return number


def result_text(name: str, value: object) -> str:
    """Return the result ``name`` as the page writes it; a number no run can have is called so."""
    text = percent_text(value) if name.endswith("_accuracy") else number_text(value)
    impossible = finite_number(value) is not None and result_number(name, value) is None
    return f"{text} (impossible)" if impossible else text


def bytes_text(count: float) -> str:
    """Return a number of bytes with a decimal unit."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} B" if unit == 0 else f"{count:.3g} {_UNITS[unit]}"
