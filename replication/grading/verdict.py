"""Decide whether an answer is the reference: the exact part here, the rest by math-verify (`symbolic.py`)."""

from __future__ import annotations

import re
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from replication.grading.normalize import normalize, readings
from replication.grading.numeral import MAX_DIGITS, read_number, same_number

LONGEST_ANSWER = 2000  # characters; a longer answer is refused unless the reference is about as long

_BASED_NUMBER = re.compile(r"(?P<digits>[0-9][0-9A-Za-z]*)_(?:\{(?P<base>[^{}]+|\\text\{[^{}]*\})\})")
_SAME = re.compile(r"=|\\(?:approx|simeq|cong|equiv)(?![A-Za-z])")
_TICKED = re.compile(r"[0-9.]+(?:'+|\^\{T\})")  # math-verify would drop the tick
_AND_SO_ON = re.compile(r"\\[lc]?dots(?![A-Za-z])")
_NEARLY = Fraction(1, 100)  # relative; the most that two sides of an \approx may be apart


class Verdict(StrEnum):
    """What a completion earns: only CORRECT is worth a reward; NO_ANSWER and TIMED_OUT are counted apart from WRONG."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no answer"
    TIMED_OUT = "timed out"


class Reply(NamedTuple):
    """What a worker says of one pair."""

    verdict: Verdict
    reason: str
    is_final: bool = True
    """False where the check was cut short by something that was not its own doing, so that it says nothing of it."""


def exact_verdict(gold: str, answer: str, tolerance: float | None = None) -> Verdict | None:
    """What plain text decides: equal numbers, integers of any size, words, choice letters, equal spelling.

    None where mathematics is needed. Cheap: bounded by the length of the texts, nothing is evaluated.
    """
    if not tolerance and _digits(gold) and _digits(answer):
        return _verdict(bool(same_number(_digits(gold), _digits(answer))))
    if len(answer) > max(LONGEST_ANSWER, 2 * len(gold)):
        return Verdict.WRONG
    decided = [_same_text(*pair, tolerance) for pair in readings(normalize(gold), normalize(answer))]
    if any(decided):
        return Verdict.CORRECT
    return None if None in decided else Verdict.WRONG


def decide(gold: str, answer: str, tolerance: float | None = None) -> Verdict:
    """The full decision. May take any time and memory on hostile text: only to be run where it can be killed."""
    verdict = exact_verdict(gold, answer, tolerance)
    if verdict is not None:
        return verdict
    from replication.grading.symbolic import same_mathematics  # imports sympy, which exact answers never need

    pairs = readings(normalize(gold), normalize(answer))
    return _verdict(any(same_mathematics(*pair, tolerance) for pair in pairs))


def _same_text(gold: str, answer: str, tolerance: float | None) -> bool | None:
    """Whether two normal forms are the same number, words, choice letter or spelling; None where text cannot tell."""
    if not answer:
        return False
    if gold == answer:
        return True
    if (
        _contradicts_itself(answer)
        or _TICKED.fullmatch(answer)
        or (_AND_SO_ON.search(answer) and not _AND_SO_ON.search(gold))
    ):
        return False
    numbers = same_number(gold, answer, tolerance)
    if numbers is not None:
        return numbers
    if based := _BASED_NUMBER.fullmatch(answer):  # math-verify would drop the base
        return not _BASED_NUMBER.fullmatch(gold) and bool(same_number(gold, _in_base_ten(based), tolerance))
    gold_word, answer_word = _word(gold), _word(answer)
    if gold_word or answer_word:
        if (gold_word or gold.casefold()) == (answer_word or answer.casefold()):
            return True
        return False if gold_word and answer_word else None
    if re.fullmatch("[A-Z]", gold) and (letter := _chosen_letter(answer)):
        return letter == gold
    return None


def _in_base_ten(based: re.Match[str]) -> str:
    """The value of `1010_{2}` in decimal digits; nothing where digits or base cannot be read."""
    base = based["base"].strip("()")
    if not re.fullmatch("[0-9]{1,2}", base) or not 2 <= int(base) <= 36 or len(based["digits"]) > MAX_DIGITS:
        return ""
    try:
        return str(int(based["digits"], int(base)))
    except ValueError:
        return ""


def _contradicts_itself(answer: str) -> bool:
    """Whether an answer equates plain numbers that differ, `42=43=42`, `6\\approx7`, or something with nothing."""
    sides = _SAME.split(answer)
    if len(sides) == 1:
        return False
    values = [number.value for side in sides if (number := read_number(side.strip()))]
    low, high = min(values, default=Fraction(0)), max(values, default=Fraction(0))
    return not all(map(str.strip, sides)) or high - low > _NEARLY * max(abs(low), abs(high))


def _word(text: str) -> str | None:
    """The words of a normal form that is nothing but text."""
    match = re.fullmatch(r"\\text\{([^{}]*)\}", text)
    return match[1] if match else None


def _chosen_letter(answer: str) -> str | None:
    """`B` of `(B)42` and `B. 42`: one choice letter with its value; None where a second letter or an "or" follows."""
    label = re.fullmatch(r"(?:\(([A-Z])\)|([A-Z])[.:)])(.+)", _word(answer) or answer)
    if label is None or re.search(r"\b[A-Z]\b|\b(?:or|and)\b|^,", label[3]):
        return None
    return label[1] or label[2]


def _digits(text: str) -> str:
    """`text` when it is an integer in plain digits, else nothing: spares the commonest answers all rewriting."""
    text = text.strip()
    return text if text.lstrip("+-").isascii() and text.lstrip("+-").isdigit() else ""


def _verdict(is_correct: bool) -> Verdict:
    return Verdict.CORRECT if is_correct else Verdict.WRONG
