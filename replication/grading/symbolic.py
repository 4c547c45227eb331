"""math-verify, called so that numbers are judged relative to the reference and equations by every side.

Importing this module imports sympy. It is used inside a worker that can be killed, so math-verify's own timeouts
(SIGALRM, main thread only) are switched off.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

import sympy
from latex2sympy2_extended import NormalizationConfig
from latex2sympy2_extended.logic import And
from math_verify import LatexExtractionConfig, parse, verify
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

from replication.grading.numeral import rounds_to, within
from replication.grading.sums import is_certainly_not_zero, runs_over_subscripts, same_at_whole_numbers, spelled

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns about the switched-off timeouts

# No units here: math-verify would take the d of `2d` for days. No plain-text expressions: those go through parse_expr.
_EXTRACTION = LatexExtractionConfig(
    boxed_match_priority=-1,
    normalization_config=NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    ),
)
_CHOP_DIGITS = 50  # differences below 10^-50 of the smallest number count as zero
_VALUE_DIGITS = 30  # of an irrational number, to compare it with a decimal
_SPACED_NUMBERS = re.compile(r"[0-9] [0-9]")  # math-verify would read `1 2` as 12

# Names as any other, which math-verify reads as a function, as Euler's number, or not at all
_NAMES = [
    (re.compile(r"\\gamma(?![A-Za-z])"), r"g_{\\beta}"),
    (re.compile(r"\\Gamma(?![A-Za-z(])"), r"g_{\\alpha}"),
    (re.compile(r"(?<![A-Za-z\\])E_\{([A-Za-z0-9]+)\}"), r"g_{E\1}"),
    (re.compile(r"_\{\\(max|min)\}"), r"_{\1}"),
]
_APPROXIMATELY = re.compile(r"\\(?:approx|simeq|sim|cong)(?![A-Za-z])")
_NEARLY = 0.01  # relative; the most that two sides of an \approx may be apart
_HARD = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative)

Expression: TypeAlias = sympy.Basic | sympy.MatrixBase


def same_mathematics(gold: str, answer: str, tolerance: float | None = None) -> bool:
    """Whether math-verify finds two normal forms equal. May hang or exhaust memory: run it where it can be killed."""
    if not _APPROXIMATELY.search(gold) and len(sides := _APPROXIMATELY.split(answer)) > 1:
        return _nearly_equal(sides) and any(same_mathematics(gold, side, tolerance) for side in sides)
    gold_expression, answer_expression = _parse(gold), _parse(answer)
    if gold_expression is None or answer_expression is None:
        return False
    if not _numeric_sides_agree(answer_expression):
        return False
    return _equal(gold_expression, _in_names_of(gold_expression, answer_expression), tolerance)


def _nearly_equal(sides: list[str]) -> bool:
    """Whether all sides of an \\approx, each the end of its equation, are real numbers that lie together."""
    numbers = [_parse(side.rpartition("=")[2]) for side in sides]
    if not all(number is not None and _is_real_number(number) for number in numbers):
        return False
    values = [float(_value(number)) for number in numbers if isinstance(number, sympy.Expr)]
    return max(values) - min(values) <= _NEARLY * max(map(abs, values))


def _in_names_of(gold: Expression, answer: Expression) -> Expression:
    """`answer` with the reference's symbols: math-verify takes a letter for real or not by what it stands in."""
    if not (isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr)):
        return answer
    mine = {symbol.name: symbol for symbol in gold.free_symbols if isinstance(symbol, sympy.Symbol)}
    theirs = [symbol for symbol in answer.free_symbols if isinstance(symbol, sympy.Symbol)]
    others = {symbol: mine[symbol.name] for symbol in theirs if mine.get(symbol.name, symbol) != symbol}
    return answer.xreplace(others) if others else answer  # replacing evaluates, `0+x` would become `x`


def _parse(text: str) -> Expression | None:
    """The sympy expression of a normal form; None for nan, complex infinity and what math-verify cannot read."""
    if _SPACED_NUMBERS.search(text):
        return None
    for name, plain in _NAMES:
        text = name.sub(plain, text)
    found = parse(pred=f"${text}$", extraction_config=[_EXTRACTION], fallback_mode="no_fallback", parsing_timeout=None)
    if not found or not isinstance(found[0], Expression) or found[0].has(sympy.nan, sympy.zoo):
        return None
    names = found[0].free_symbols
    imaginary = {name: sympy.I for name in names if str(name) == "i"} if len(names) <= 2 else {}  # more are a word
    return found[0].xreplace(imaginary) if imaginary else found[0]


def _equal(gold: Expression, answer: Expression, tolerance: float | None = None) -> bool:
    """math-verify's comparison, without its rounding to six decimal places: every decimal is made exact beforehand."""
    if runs_over_subscripts(gold) or runs_over_subscripts(answer):
        return spelled(gold) == spelled(answer)
    if isinstance(gold, sympy.Eq) and isinstance(answer, sympy.Eq) and (gold.has(*_HARD) or answer.has(*_HARD)):
        return _by_sides(gold, answer)
    if tolerance or gold.has(sympy.Float) or answer.has(sympy.Float):
        elements = _elements(gold)
        if len(set(map(_exact, _elements(answer)))) > len(set(map(_exact, elements))):
            return False  # `0.9,1` hedges, though both be within a tolerance of the reference
        answer = _map_elements(answer, lambda element: _exact(_rounded_from(element, elements, tolerance)))
        gold = _map_elements(gold, _exact)
    if (decided := _by_values(gold, answer)) is not None:
        return decided
    return bool(
        verify(
            gold=gold,
            target=answer,
            numeric_precision=_CHOP_DIGITS + _leading_zeros([*_elements(gold), *_elements(answer)]),
            strict=True,
            allow_set_relation_comp=False,
            timeout_seconds=None,
        )
    )


def _by_sides(gold: sympy.Eq, answer: sympy.Eq) -> bool:
    """Whether two equations have the same sides. Solving one that holds a sum or an integral may take for ever."""
    return any(_equal(gold.lhs, left) and _equal(gold.rhs, right) for left, right in (answer.args, answer.args[::-1]))


def _by_values(gold: Expression, answer: Expression) -> bool | None:
    """False where the difference of two expressions is certainly not zero at some point: a proof that spares
    simplifying, however small the two are. True for sums that agree wherever they are tried; None otherwise."""
    if not (isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr)) or gold.is_Symbol or answer.is_Symbol:
        return None
    if gold.has(*_HARD) or answer.has(*_HARD):
        return same_at_whole_numbers(gold, answer)
    names = sorted(gold.free_symbols | answer.free_symbols, key=str)
    point = {name: sympy.Rational(2 * place + 5, 2 * place + 3) for place, name in enumerate(names)}
    return False if is_certainly_not_zero((gold - answer).subs(point)) else None


def _leading_zeros(elements: list[Expression]) -> int:
    """The zeros after the point of the smallest number among `elements`: 6 for 10^-7, 0 where all are above 0.1."""
    sizes = [abs(sympy.N(element, 2)) for element in elements if _is_constant(element)]
    places = [Decimal(str(size)).adjusted() for size in sizes if size.is_Float and size.is_positive]
    return max(0, -1 - min(places, default=0))


def _numeric_sides_agree(expression: Expression) -> bool:
    """False for an equation or chain that equates different numbers, such as `6=5`; math-verify reads only its end."""
    equations = expression._unsorted_args if isinstance(expression, And) else [expression]
    if not all(isinstance(equation, sympy.Eq) for equation in equations):
        return True
    sides = [equations[0].lhs, *(equation.rhs for equation in equations)]
    numeric = [side for side in sides if not side.free_symbols and not side.has(AppliedUndef)]
    return all(_equal(side, numeric[-1]) for side in numeric[:-1])


def _rounded_from(element: Expression, references: list[Expression], tolerance: float | None) -> Expression:
    """The reference number that `element` agrees with, or itself: within the tolerance, or to six digits where one of
    the two is a decimal; a decimal agrees with no irrational number."""
    for reference in references:
        if not (_is_real_number(element) and _is_real_number(reference)):
            continue
        if tolerance:
            agrees = within(_value(reference), _value(element), tolerance)
        elif reference.has(sympy.Float) or (element.has(sympy.Float) and _exact(reference).is_Rational):
            agrees = rounds_to(_value(reference), _value(element))
        else:
            agrees = False
        if agrees:
            return reference
    return element


def _is_constant(element: Expression) -> bool:
    return isinstance(element, sympy.Expr) and bool(element.is_number) and not element.has(*_HARD)


def _is_real_number(element: Expression) -> bool:
    return _is_constant(element) and bool((value := sympy.N(element)).is_finite and value.is_extended_real)


def _value(number: sympy.Expr) -> Fraction:
    rational = _exact(number)
    if not rational.is_Rational:
        rational = sympy.Rational(str(sympy.N(rational, _VALUE_DIGITS)))
    return Fraction(int(rational.p), int(rational.q))


def _exact(element: Expression) -> Expression:
    """The same expression with every decimal as the fraction that its digits spell."""
    exact = element.xreplace({decimal: sympy.Rational(str(decimal)) for decimal in element.atoms(sympy.Float)})
    return exact.doit() if exact.is_number else exact


def _elements(expression: Expression) -> list[Expression]:
    found: list[Expression] = []

    def note(element: Expression) -> Expression:
        found.append(element)
        return element

    _map_elements(expression, note)
    return found


def _map_elements(expression: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """`expression` with `change` applied to each element: of a set, tuple, interval, matrix or relation, or to itself.

    Written order is kept (`_unsorted_args`): math-verify compares a tuple with a list by it.
    """
    if isinstance(expression, sympy.MatrixBase):
        return expression.applyfunc(change)
    if isinstance(expression, Relational):
        sides = [_map_elements(side, change) for side in expression.args]
        return expression.func(*sides, evaluate=False)
    if isinstance(expression, sympy.Set | sympy.Tuple | And):
        parts = getattr(expression, "_unsorted_args", expression.args)
        return expression.func(*(_map_elements(part, change) for part in parts))
    return change(expression) if isinstance(expression, sympy.Expr) else expression
