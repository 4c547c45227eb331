"""One value of a published row, checked. What is wrong is a `ValueError` of one phrase; the reader adds the place."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any


class _Shown(reprlib.Repr):
    """`repr` for a message: one short line of any value, as its file has it. Methods are found by the type's name."""

    def repr_NoneType(self, value: None, level: int) -> str:
        return "null"

    def repr_bool(self, value: bool, level: int) -> str:
        return str(value).lower()

    def repr_Decimal(self, value: Decimal, level: int) -> str:
        text = str(value)
        return text if len(text) <= 40 else f"{text[:20]}...{text[-10:]}"


_REPR = _Shown()
_REPR.maxstring = 40


def shown(value: Any) -> str:
    """A value for a message, short whatever it is."""
    return _REPR.repr(value)


def parse_json(text: str, **hooks: Any) -> Any:
    """`json.loads`, whose every failure is a `ValueError` that says what is wrong with the text."""
    try:
        return json.loads(text, **hooks)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        if "integer string conversion" in str(error):  # its advice is for programmers
            raise ValueError("an integer of more digits than Python reads") from None
        raise


def parse_row(text: str) -> Any:
    """JSON whose numbers are `Decimal`, as they are written, and whose objects name no key twice."""
    return parse_json(text, parse_int=_exact, parse_float=_exact, object_pairs_hook=_object)


def _exact(digits: str) -> Decimal:
    try:
        return Decimal(digits)
    except InvalidOperation:  # an exponent beyond Decimal's
        return Decimal("NaN")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in an object")
    return found


def read_text(value: Any, what: str) -> str:
    """A text that is not empty, without what no file can hold."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not {what} (text)")
    if not value.strip():
        raise ValueError(f"empty, where {what} must stand")
    return encodable(value)


def encodable(text: str) -> str:
    """The text, if it is Unicode throughout."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no character") from None
    return text


def read_topic(value: Any) -> str:
    """A topic as text, empty where the row has none."""
    return "" if value is None else encodable(value if isinstance(value, str) else shown(value))


def read_number(value: Any) -> float | None:
    """A difficulty or tolerance, or None where the row has none."""
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{shown(value)} is not a number") from None
    if math.isinf(number):
        raise ValueError(f"{shown(value)} is not a finite number")
    return None if math.isnan(number) else number


def read_tolerance(value: Any) -> float | None:
    """The error allowed, or None; of several, one an answer, the smallest."""
    each = value.split(",") if isinstance(value, str) and value.strip() else [value]
    found = [number for part in each if (number := read_number(part)) is not None]
    if any(number < 0 for number in found):
        raise ValueError(f"{shown(value)} is negative")
    return min(found, default=None)
