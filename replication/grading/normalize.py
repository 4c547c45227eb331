"""The one normal form in which a reference and an answer are compared."""

from __future__ import annotations

import re
from functools import lru_cache

from replication.grading.spelling import plain_characters, plain_latex, radians, tighten
from replication.grading.wording import drop_surroundings, one_text_macro, unwrap_text

_CHOICE = re.compile(  # one choice letter with its value, `(C)27`; not the product `(C)\cdot 27`
    r"(?:\(([A-E])\)|([A-E])[.:)])(?![+*/^_=,!']|\\(?:cdot|times|div|cup|cap|in|to|le|ge)\b)(?P<value>.*[0-9].*)"
)
_NAMED = re.compile(r"[A-Za-z](?:_\{[A-Za-z0-9]+\})?=(?P<value>[^=<>]+)")
_WHOLE = re.compile(r"[+-]?(?:[2-9]|[0-9]{2,})(?:\.0*)?")
_PERCENT = re.compile(r"\\%(?=$|[,;)\]]|\\\})")  # at the end of an element
_HUNDREDTH = r"\\cdot10^{-2}"
_RELATION = re.compile(r"=|<|>|\\(?:le|ge|in|neq?)(?![A-Za-z])")
_PARENTHESES = re.compile(r"\(+([A-Za-z]|[+-]?[0-9.]+)\)+")


@lru_cache(maxsize=4096)
def normalize(text: str) -> str:
    """`text` in normal form: still LaTeX, without anything that does not change an answer (docs: scoring policy).

    The same for reference and answer, and idempotent in effect; `\\%` at the end is kept, for `readings` to judge.
    """
    text = radians(plain_latex(one_text_macro(plain_characters(text))))
    text = tighten(unwrap_text(drop_surroundings(text)))
    text = drop_surroundings(text)
    if lone := _PARENTHESES.fullmatch(text):
        text = lone[1]
    return text


def readings(gold: str, answer: str) -> list[tuple[str, str]]:
    """What reference and answer may stand for, given normal forms of both: pairs, of which one has to be the same.

    A choice letter before a value, `(C)27`, is dropped where the reference is no letter, and a name, `x=27`, where the
    reference has none. Percent signs are dropped. Where one side alone has them they may also mean a hundredth, unless
    the other side is a whole number above 1.
    """
    if (choice := _CHOICE.fullmatch(answer)) and not re.match(r"\(?[A-E]\b", gold):
        answer = choice["value"]
    if (named := _NAMED.fullmatch(answer)) and not _RELATION.search(gold):
        answer = named["value"]
    plain_gold, plain_answer = _PERCENT.sub("", gold), _PERCENT.sub("", answer)
    pairs = [(plain_gold, plain_answer)]
    if plain_answer == answer and plain_gold != gold and not _WHOLE.fullmatch(answer):
        pairs.append((_PERCENT.sub(_HUNDREDTH, gold), answer))
    if plain_gold == gold and plain_answer != answer and not _WHOLE.fullmatch(gold):
        pairs.append((gold, _PERCENT.sub(_HUNDREDTH, answer)))
    return pairs
