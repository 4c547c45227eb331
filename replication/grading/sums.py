"""Sums and products that run to a symbol or over subscripts, which sympy would solve for ever or read wrongly."""

from __future__ import annotations

import sympy
from sympy.core.evalf import PrecisionExhausted
from sympy.core.function import AppliedUndef

_WHOLE_NUMBERS = range(3, 9)  # tried for a symbol that bounds a sum

_TOTALS = (sympy.Sum, sympy.Product)


def runs_over_subscripts(expression: sympy.Basic) -> bool:
    """Whether a sum or product runs over a subscript, as in `\\sum_k F_k`: to sympy such a name is a constant."""
    return any(
        index.name in name.name.partition("_")[2]
        for total in expression.atoms(*_TOTALS)
        for index in total.variables
        for name in total.function.free_symbols
    )


def spelled(expression: sympy.Basic) -> sympy.Basic:
    """`expression` with factors and terms in sympy's order, and the index of its sums, where there is one, as `@`."""
    indices = {index.name for total in expression.atoms(*_TOTALS) for index in total.variables}
    names = {symbol: symbol.name for symbol in expression.atoms(sympy.Symbol)}
    if len(indices) == 1:
        index = indices.pop()
        for symbol, name in names.items():
            letter, mark, subscript = name.partition("_")
            names[symbol] = "@" if name == index else letter + mark + subscript.replace(index, "@")
    plain = expression.xreplace({symbol: sympy.Symbol(name) for symbol, name in names.items()})
    return plain.replace(lambda part: isinstance(part, sympy.Add | sympy.Mul), lambda part: part.func(*part.args))


def same_at_whole_numbers(gold: sympy.Expr, answer: sympy.Expr) -> bool | None:
    """Whether two expressions agree where the symbols that bound their sums are 3, 4, ... 8; None where that is no
    question, or cannot be told. Other symbols have a value each."""
    difference = gold - answer
    totals = difference.atoms(*_TOTALS)
    bounding = {
        name for total in totals for _, *bounds in total.limits for bound in bounds for name in bound.free_symbols
    }
    if not bounding & difference.free_symbols:
        return None
    others = sorted(difference.free_symbols - bounding, key=str)
    point = {name: sympy.Rational(2 * place + 5, 2 * place + 3) for place, name in enumerate(others)}
    for first in _WHOLE_NUMBERS:
        whole = {name: first + place for place, name in enumerate(sorted(bounding & difference.free_symbols, key=str))}
        value = difference.subs({**point, **whole}).doit()
        calls = sorted(value.atoms(AppliedUndef), key=str)  # f(0), f(1), ... of a recurrence
        value = value.xreplace({call: sympy.Rational(2 * place + 7, 2 * place + 5) for place, call in enumerate(calls)})
        if not value.is_number or value.has(sympy.nan, sympy.zoo, *_TOTALS):
            return None
        if is_certainly_not_zero(value):
            return False
    return True


def is_certainly_not_zero(number: sympy.Expr) -> bool:
    """Whether a number, however small, has a digit that evaluation vouches for. False for what is zero, as it has none
    in a hundred digits."""
    try:
        value = number.evalf(2, strict=True)
    except PrecisionExhausted:
        return False
    return bool(value.is_number and value.is_finite and not value.is_zero)
