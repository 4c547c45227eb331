"""Plain numbers, read exactly: integers compare at any size, decimals agree to six significant digits."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

MAX_DIGITS = 4000  # a longer integer is compared by its digits; any other longer number is left to math-verify
SIGNIFICANT_DIGITS = 6

_SIGN = r"(?P<sign>[+-]*)"
_INTEGER = re.compile(_SIGN + r"(?P<digits>[0-9]+)(?:\.0*)?")
_DECIMAL = re.compile(
    _SIGN + r"(?P<mantissa>[0-9]+\.?[0-9]*|\.[0-9]+)"
    r"(?:(?:\\times|\\cdot) ?10\^(?P<power>[0-9]|\{[+-]?[0-9]{1,4}\}))?"
)
_REPEATING = re.compile(
    _SIGN + r"(?P<whole>[0-9]*)\.(?P<fixed>[0-9]*)(?:\\(?:overline|bar|dot)\{(?P<cycle>[0-9]+)\}|\((?P<round>[0-9]+)\))"
)
_RATIO = re.compile(
    _SIGN + r"(?:(?P<whole>[0-9]+)(?:(?=\\)| ))?"
    r"(?:\\frac\{(?P<top>[+-]?[0-9]+)\}\{(?P<bottom>[+-]?[0-9]+)\}|(?P<over>[0-9]+)/(?P<under>[0-9]+))"
)


class Number(NamedTuple):
    """A number as written: its exact value, and whether it was written as a decimal that does not end in a whole."""

    value: Fraction
    is_decimal: bool


def read_number(text: str) -> Number | None:
    """The number that normalised `text` is, or None: an integer, decimal, power-of-ten form, fraction, mixed number
    or repeating decimal of at most `MAX_DIGITS` characters."""
    if len(text) > MAX_DIGITS:
        return None
    if match := _DECIMAL.fullmatch(text):
        exponent = int((match["power"] or "0").strip("{}"))
        value = Fraction(match["mantissa"]) * Fraction(10) ** exponent
        return Number(_signed(match["sign"], value), is_decimal=value.denominator != 1)
    if match := _REPEATING.fullmatch(text):
        cycle, fixed = match["cycle"] or match["round"], match["fixed"]
        tail = Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(fixed))
        return Number(_signed(match["sign"], Fraction(f"{match['whole'] or 0}.{fixed or 0}") + tail), is_decimal=False)
    if match := _RATIO.fullmatch(text):
        top, bottom = int(match["top"] or match["over"]), int(match["bottom"] or match["under"])
        if bottom == 0:
            return None
        return Number(_signed(match["sign"], int(match["whole"] or 0) + Fraction(top, bottom)), is_decimal=False)
    return None


def same_number(gold: str, answer: str, tolerance: float | None = None) -> bool | None:
    """Whether two normalised texts are the same number; None when either is not a plain number.

    Exact, unless both are fractional and one is a decimal: then to six significant digits of the reference. A
    benchmark's own `tolerance`, an absolute error, takes the place of both.
    """
    gold_integer, answer_integer = _integer_digits(gold), _integer_digits(answer)
    if gold_integer is not None and answer_integer is not None and not tolerance:
        return gold_integer == answer_integer
    gold_number, answer_number = read_number(gold), read_number(answer)
    if gold_number is None or answer_number is None:
        return None
    if gold_number.value == answer_number.value:
        return True
    if tolerance:
        return within(gold_number.value, answer_number.value, tolerance)
    one_is_decimal = gold_number.is_decimal or answer_number.is_decimal
    return one_is_decimal and rounds_to(gold_number.value, answer_number.value)


def within(gold: Fraction, answer: Fraction, tolerance: float) -> bool:
    """Whether `answer` is at most `tolerance` from `gold`, exactly: 4.3 is within 0.1 of 4.2."""
    return abs(answer - gold) <= Fraction(repr(tolerance))


def rounds_to(gold: Fraction, answer: Fraction) -> bool:
    """Whether `answer` is within half a unit of the sixth significant digit of `gold`; exact where either is whole."""
    if gold.denominator == 1 or answer.denominator == 1:
        return gold == answer
    leading = (Decimal(gold.numerator) / Decimal(gold.denominator)).adjusted()  # 0 for 1.5, -1 for 0.15
    return abs(answer - gold) <= Fraction(10) ** (leading - SIGNIFICANT_DIGITS + 1) / 2


def _integer_digits(text: str) -> str | None:
    """An integer of any length in one canonical spelling (`-0` and `000` are `0`, `73.0` is `73`), or None."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    digits = match["digits"].lstrip("0") or "0"
    return "-" + digits if match["sign"].count("-") % 2 and digits != "0" else digits


def _signed(signs: str, value: Fraction) -> Fraction:
    return -value if signs.count("-") % 2 else value
