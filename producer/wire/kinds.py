"""Kinds of JSON's values, told apart strictly: a bool is no number, and a number is finite.

Stage: under :mod:`producer.wire.requests` and :mod:`producer.wire.results`.
"""

import math
from typing import TypeGuard


def is_int(value: object) -> TypeGuard[int]:
    """Tell whether ``value`` is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether ``value`` is a number that a finite float can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def whole(value: object) -> int:
    """Return ``value`` if it is a whole number.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a whole number, not {type(value).__name__}")
    return value


def real(value: object) -> float:
    """Return ``value`` as a float if it is a finite number.

    Raises:
        TypeError: it is not.
    """
    if type(value) is float and math.isfinite(value):  # as nearly all are, and a result has a few dozen
        return value
    if not is_number(value):
        raise TypeError(f"expected a finite number, not {type(value).__name__}")
    return float(value)


def text(value: object) -> str:
    """Return ``value`` if it is text.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, str):
        raise TypeError(f"expected text, not {type(value).__name__}")
    return value
