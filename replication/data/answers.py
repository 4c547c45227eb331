r"""The final answer of a problem as it was published: what of a value is taken, by one rule (docs/data.md).

1. A text that ends in a line with `####`, as GSM8K's solutions do: what stands behind it.
2. Else a text with a box, as MATH's solutions: the content of its last `\boxed{...}` or `\fbox{...}`, found as in a
   completion.
3. Else the whole text, if it can be an answer: at most 20 words of prose in one sentence, 6 words in several sentences
   or lines, formulas of any length. Anything else is a solution that marks no answer. It is refused: every completion
   would be graded wrong by it.
4. A number: its digits. A list: its answers, each by this rule, joined by ", ".
5. Dollars, `\(...\)` or `\[...\]` around all that was taken are dropped. No answer has more than 2,000 characters.
"""

from __future__ import annotations

import ast
import re
from decimal import Decimal
from typing import Any

from replication.data.values import read_text, shown
from replication.grading.answer import extract_answer

MARK = "####"
SENTENCE, SENTENCES = 20, 6  # words in one sentence, in several; OlympiadBench's longest answer has 12 in one
LONGEST = 2000  # characters; MATH-500's, Minerva's and OlympiadBench's have 224 at most

_BOX = re.compile(r"\\(?:boxed|f(?:rame)?box)(?![A-Za-z])")
_COMMAND = re.compile(r"\\(?:begin|end) *\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\d_]{2,}")  # each sign of a script without spaces is a word
_SEVERAL = re.compile(r"[.!?]\s+(?=[^\W\d_])|[。！？](?=.)|\n")  # where a second sentence or line begins
_FORMULA = re.compile(r"\$+([^$]*[^$\\])\$+|\\\(((?:(?!\\[()]).)*)\\\)|\\\[((?:(?!\\[\[\]]).)*)\\\]", re.DOTALL)
_BROKEN = re.compile(  # what JSON makes of \frac, \boxed, \text or \rho written with one backslash
    r"[\x00-\x08\x0b\x0c\x0e-\x1f]|\t(?=ext|imes|heta|frac|riangle|ilde|au\b)|\r(?=ight|angle|ho\b)"
)


def take_answer(value: Any) -> str:
    """The answer that a published value gives, as text.

    Args:
        value: a text, number or list as JSON or Parquet has it.

    Raises:
        ValueError: no answer can be told from it; the message says why and what to do.
    """
    if isinstance(value, str):
        value = _listed(value)
    if isinstance(value, list):
        if not value:
            raise ValueError("an empty list, where an answer must stand")
        return ", ".join(_one_answer(each) for each in value)
    return _one_answer(value)


def _one_answer(value: Any) -> str:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        value = _digits(value)
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not an answer (a text, a number, or a list of them)")
    if broken := _BROKEN.search(read_text(value, "an answer")):
        raise ValueError(f"holds the control character {broken[0]!r} (in JSON a backslash is written twice)")
    answer = _marked(value.strip())
    if within := _FORMULA.fullmatch(answer):
        answer = next(part for part in within.groups() if part is not None).strip()
    if len(answer) > LONGEST:
        raise ValueError(f"an answer of {len(answer):,} characters, more than {LONGEST:,}")
    return read_text(answer, "an answer")


def _marked(text: str) -> str:
    """What a text marks as its answer, or the text itself where it marks nothing and is short."""
    _, mark, behind = text.rpartition(MARK)
    if mark and "\n" not in behind:
        text = behind.strip()
    if (boxed := extract_answer(text)) is not None:
        return boxed
    if _BOX.search(text) or MARK in text:
        raise ValueError(f"{_end(text)} has a mark (a box or {MARK}) without an answer")
    words = len(_WORD.findall(_COMMAND.sub(" ", text)))
    if words > (SENTENCES if _SEVERAL.search(text) else SENTENCE):
        raise ValueError(f"{words} words, none marked as the answer by \\boxed{{...}} or a last {MARK} ({_end(text)})")
    return text


def _end(text: str) -> str:
    """The last characters of a text, for a message."""
    return repr(text if len(text) <= 40 else f"...{text[-40:]}")


def _digits(number: float | Decimal) -> str:
    """A number in plain digits, all of them as published."""
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    if not exact.is_finite():
        raise ValueError(f"{shown(number)} is not a number that can be an answer")
    if abs(exact.adjusted()) > LONGEST:
        digits = abs(exact.adjusted()) + 1
        raise ValueError(f"a number of {digits:,} digits, more than {LONGEST:,}")
    text = f"{exact:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _listed(text: str) -> str | list[str]:
    """The strings in a text such as "['2']" (OlympiadBench on the hub); any other text, [0, 1] say, as it is."""
    if not text.strip().startswith(("['", '["')):
        return text
    try:
        parsed = ast.literal_eval(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text
    return parsed if isinstance(parsed, list) and all(isinstance(each, str) for each in parsed) else text
