"""Duplicates, benchmark problems among the training problems, and the drawn subset: pure functions."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replication.data.sources import Problem
from replication.seeds import seed_for

RUN = 13
"""Words in a row that two long questions must share to be compared at all (Brown et al. 2020, appendix C)"""
SHORT_RUN, SHARE = 5, 0.5
"""They match if at least this share of the shorter one's 5-word runs stands in the other; a shared 13-word run alone
would match any two AIME problems that end in "where m and n are relatively prime positive integers. Find m+n." """

_CHARACTERS = str.maketrans({
    "−": "-", "–": "-", "’": "'", "‘": "'", "×": r"\times ", "·": r"\cdot ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ",
    "°": r"^\circ ", "π": r"\pi ", "∞": r"\infty ", "²": "^2", "³": "^3",
})  # fmt: skip
_COMMANDS = {  # notations of one thing
    r"\leq": r"\le", r"\geq": r"\ge", r"\neq": r"\ne", r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac",
    r"\lvert": "|", r"\rvert": "|", r"\vert": "|", r"\mid": "|", r"\to": r"\rightarrow", r"\ldots": r"\dots",
    r"\cdots": r"\dots",
}  # fmt: skip
_LAYOUT = {
    r"\left", r"\right", r"\big", r"\bigl", r"\bigr", r"\bigg", r"\biggl", r"\biggr", r"\displaystyle", r"\textstyle",
    r"\limits", r"\quad", r"\qquad", r"\text", r"\textbf", r"\textit", r"\textrm", r"\mathrm", r"\mathbf", r"\mathit",
    r"\operatorname", r"\mbox", r"\rm", r"\bf", r"\begin", r"\end", r"\noindent",
}  # fmt: skip
_PUNCTUATION = set('.,;:?"“”`$#{}~&\\')
_FIGURE = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)
_SPACING = re.compile(r"\\[,;: \\()\[\]]")  # thin spaces, line breaks, and the delimiters of formulas
_DIGITS = re.compile(r"(\\[dtc]?frac)(\d)(\d)")  # \frac12 is a half
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_TOKEN = re.compile(r"\\[a-z]+|\d+(?:\.\d+)?|[^\W\d_]+|[^\w\s]|_")


def _tokens(text: str) -> list[str]:
    """Words, numbers, commands and operators of a question, without what only sets its type."""
    text = unicodedata.normalize("NFKC", _FIGURE.sub(" ", text).translate(_CHARACTERS)).casefold()
    text = _SPACING.sub(" ", text.replace(r"\!", "").replace("{,}", ","))
    text = _THOUSANDS.sub("", _DIGITS.sub(r"\1 \2 \3 ", text))
    found = (_COMMANDS.get(token, token) for token in _TOKEN.findall(text))
    return [token for token in found if token not in _LAYOUT and token not in _PUNCTUATION]


def normalize_question(text: str) -> str:
    """A question without case, spaces, sentence punctuation and LaTeX layout: equal for copies of one problem.

    Operators, brackets and decimal points stay, so that 3+4, 3-4 and 34 differ, and so do 3.5 and 35.
    """
    return _join(_tokens(text))


def _join(tokens: Sequence[str]) -> str:
    """The tokens without spaces, but for one where two numbers, or a command and a letter, would run together."""
    parts: list[str] = []
    last = ""
    for token in tokens:
        if (token[0].isdigit() and last[-1:].isdigit()) or (token[0].isalpha() and last[:1] == "\\"):
            parts.append(" ")
        parts.append(token)
        last = token
    return "".join(parts)


def _words(tokens: Sequence[str]) -> list[str]:
    """Words, numbers and commands; operators do not count."""
    return [token for token in tokens if token[0].isalnum() or len(token) > 1]


def _runs(words: Sequence[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


@dataclass(frozen=True)
class Removed:
    """A training problem that is not used."""

    problem: Problem
    reason: str
    """duplicate, conflicting, exact (it is a benchmark problem) or overlap (it is nearly one)"""
    match: str
    """Id of the problem it duplicates, or <benchmark>-<row> of the benchmark problem"""


def drop_duplicates(problems: Sequence[Problem]) -> tuple[list[Problem], list[Removed]]:
    """The first of each set of equal questions; none of a set whose answers differ, as one of them must be wrong."""
    keys = [normalize_question(problem.question) for problem in problems]
    groups: dict[str, list[Problem]] = {}
    for key, problem in zip(keys, problems, strict=True):
        groups.setdefault(key, []).append(problem)
    kept, removed = [], []
    for key, problem in zip(keys, problems, strict=True):
        group = groups[key]
        if len({normalize_question(p.final_answer) for p in group}) > 1:
            removed.append(Removed(problem, "conflicting", group[problem is group[0]].id))
        elif problem is group[0]:
            kept.append(problem)
        else:
            removed.append(Removed(problem, "duplicate", group[0].id))
    return kept, removed


def decontaminate(
    train: Sequence[Problem], benchmark_questions: Mapping[str, Sequence[str]]
) -> tuple[list[Problem], list[Removed]]:
    """The training problems that occur in no benchmark, and the others with the first benchmark problem they match.

    A problem occurs in a benchmark if the normalised questions are equal, or if they share a run of 13 words and at
    least half of the shorter one's 5-word runs stand in the other.

    Args:
        train: the training problems.
        benchmark_questions: benchmark name -> its questions in order.
    """
    known = [(f"{name}-{row}", _tokens(q)) for name, qs in benchmark_questions.items() for row, q in enumerate(qs, 1)]
    exact: dict[str, str] = {}
    holders: dict[tuple[str, ...], list[int]] = {}  # run of 13 words -> places in `known` of the problems that hold it
    for place, (where, tokens) in enumerate(known):
        exact.setdefault(_join(tokens), where)
        for run in _runs(_words(tokens), RUN):
            holders.setdefault(run, []).append(place)
    kept, removed = [], []
    for problem in train:
        tokens = _tokens(problem.question)
        words = _words(tokens)
        shared = holders.keys() & _runs(words, RUN)
        candidates = sorted({place for run in shared for place in holders[run]})
        near = (known[place][0] for place in candidates if _near(words, _words(known[place][1])))
        if same := exact.get(_join(tokens)):
            removed.append(Removed(problem, "exact", same))
        elif match := next(near, None):
            removed.append(Removed(problem, "overlap", match))
        else:
            kept.append(problem)
    return kept, removed


def _near(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether at least half of the shorter one's 5-word runs stand in the other."""
    runs_a, runs_b = _runs(a, SHORT_RUN), _runs(b, SHORT_RUN)
    return len(runs_a & runs_b) >= SHARE * min(len(runs_a), len(runs_b))


def draw_subset(problems: Sequence[Problem], count: int, seed: int) -> list[Problem]:
    """`count` of the problems, drawn with the seed, in their order; all of them if there are no more."""
    if count >= len(problems):
        return list(problems)
    drawn = random.Random(seed_for(seed, "subset")).sample(range(len(problems)), count)
    return [problems[i] for i in sorted(drawn)]
