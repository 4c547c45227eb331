"""One spelling for the same LaTeX: plain characters, no layout commands, one form of fractions, spaces and braces.

Every step rewrites text; nothing here evaluates anything.
"""

from __future__ import annotations

import re
import unicodedata

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑", "-"),
        **dict.fromkeys("×✕", r"\times "),
        **dict.fromkeys("·⋅∙", r"\cdot "),
        **dict.fromkeys("°º", r"^{\circ}"),
        **{"÷": "/", "∕": "/", "⁄": "/", "。": ".", "′": "'", "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt "},
        **{"≤": r"\le ", "≥": r"\ge ", "≠": r"\neq ", "≈": r"\approx ", "±": r"\pm "},
        **{"⩽": r"\le ", "⩾": r"\ge ", "ℝ": r"\mathbb{R}"},
        **{"∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset "},
    }
)
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|([0-9]+|[A-Za-z]))")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")
_SUBSCRIPT = re.compile("[₀-₉]+")
_VULGAR_FRACTION = re.compile("[¼½¾⅐-⅞]")

_LAYOUT = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\.?"
    r"|\\(?:displaystyle|textstyle|limits|nolimits|nonumber|underline)(?![A-Za-z])|(?<!\\)\\[!()]|\\?\$"
    r"|\\(?:tiny|small|normalsize|large|Large|LARGE|huge|Huge|rm|bf|it|mathstrut|strut|relax|math(?:ord|bin|rel))"
    r"(?![A-Za-z])|\\(?:[hv]space\*?|tag|label) *\{[^{}]*\}|\\kern *-?[0-9.]+ *(?:pt|em|ex|mu|[cm]m)"
    r"|\\(?:text)?color *\{[^{}]*\}"
)
_DISPLAY = re.compile(r"\\\[(.*)\\\]", re.DOTALL)
_THIN_SPACE = re.compile(r"\\thinspace(?![A-Za-z])")
_EMPTY_GROUP = re.compile(r"(?<![A-Za-z}\]_^\\])\{\}")
_SIGN_GROUP = re.compile(r"\{([-+])\}")
_NUMPY = re.compile(r"(?<![A-Za-z])np\.(?=[a-z])")  # references of Minerva: np.arcsin(10/13)
_DECIMAL_TOP = re.compile(r"(?<=[0-9])\.(?=/)")  # likewise -1./3
_SPACE = re.compile(r"(?:(?<!\\)\\[,;:> ]|\\q?quad(?![A-Za-z])|~|\s)+")
# `1, 234` keeps its space: it is a list, where `1,234` is a number.
_LOOSE_SPACE = re.compile(r" *([^A-Za-z0-9 ,]) *| *(,) *(?![0-9]{3}(?![0-9]))")

# Marks that can only be separators wherever they stand; a plain comma or space is one only in a lone number.
_DECIMAL_COMMA = re.compile(r"(?<![0-9])(?<!\{,\})([0-9]+)\{,\}(?=[0-9])")
_THOUSANDS_MARK = re.compile(r"(?<=[0-9])(?:(?<!\\)\\[,;: ]|~|\{,\}|,\s*\\!)\s*(?=[0-9]{3}(?![0-9]))")
_LIST_COMMA = re.compile(r"(?<=[^0-9\s\\]),(?=\$?[0-9]{3}(?![0-9]))")  # after a unit, a degree or a percent sign
_LONE_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:(?:,[0-9]{3})+|(?: [0-9]{3})+)(?:\.[0-9]*)?")

_FRACTION_NAME = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_FRACTION_TOP = re.compile(r"\\frac ?(\\pi(?![A-Za-z])|[0-9A-Za-z])")
_FRACTION_BOTTOM = re.compile(r"(\\frac\{(?:[^{}]|\{[^{}]*\})*\}) ?(\\pi(?![A-Za-z])|[0-9A-Za-z])")
_SCRIPT = re.compile(r"([_^])([0-9A-Za-z])(?![0-9A-Za-z]) ?")
_DEGREE = re.compile(r" *(?:\^ *(?:\{ *\\circ *\}|\\circ)|\\degrees?)(?![A-Za-z])")
_BRACES = r"\{(?:[^{}]|\{[^{}]*\})*\}"
_GROUP = rf"\((?:[^()]|\([^()]*\))*\)|{_BRACES}|\\frac *{_BRACES} *{_BRACES}"
_TRIGONOMETRIC = re.compile(  # the function, its power, and its argument
    rf"(\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])(?: *\^ *(?:[0-9]|{_BRACES}))?) *"
    rf"((?:{_GROUP})(?:{_DEGREE.pattern})?|[0-9A-Za-z.]+{_DEGREE.pattern})"
)
_EMPTY_SET = re.compile(r"\\varnothing(?![A-Za-z])|\\\{\\\}")
_REALS = re.compile(r"\\mathbb ?\{?R\}?|\\text\{all real(?:s| numbers)\}")
_E_NOTATION = re.compile(r"(?<![0-9A-Za-z.])([0-9]+\.?[0-9]*|\.[0-9]+)[eE]([+-]?[0-9]+)(?![0-9A-Za-z.])")
_FRENCH_INTERVAL = re.compile(r"([\[\]])([^\[\](),;]+[,;][^\[\](),;]+)([\[\]])")


def plain_characters(text: str) -> str:
    """Unicode look-alikes as ASCII or LaTeX: full-width digits, minus signs, superscripts, vulgar fractions, roots."""
    if text.isascii():
        return text
    text = _ROOT.sub(lambda root: rf"\sqrt{{{root[1] or root[2]}}}", text)
    text = _SUPERSCRIPT.sub(lambda power: f"^{{{_compatible(power[0])}}}", text)
    text = _SUBSCRIPT.sub(lambda index: f"_{{{_compatible(index[0])}}}", text)
    text = _VULGAR_FRACTION.sub(lambda f: r"\frac{{{}}}{{{}}}".format(*_compatible(f[0]).split("⁄")), text)
    text = _compatible(text.translate(_CHARACTERS)).translate(_CHARACTERS)
    return "".join(
        str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text if unicodedata.category(c) not in ("Cf", "Sc")
    )


def plain_latex(text: str) -> str:
    """The same LaTeX without layout: no sizing, delimiters, dollar signs or thousands separators; single spaces."""
    if display := _DISPLAY.fullmatch(text.strip()):
        text = display[1]
    text = _DECIMAL_TOP.sub("", text)
    text = _LIST_COMMA.sub(", ", _NUMPY.sub(r"\\", _THIN_SPACE.sub(r"\\,", text)))
    text = _DECIMAL_COMMA.sub(_separator, text)
    text = _THOUSANDS_MARK.sub("", text)
    text = _SIGN_GROUP.sub(r"\1", _EMPTY_GROUP.sub("", _LAYOUT.sub("", text)))
    return _SPACE.sub(" ", text).rstrip("\\ ").strip()  # a line break or a space at the end


def radians(text: str) -> str:
    """Degrees in the argument of a trigonometric function as radians: `\\sin 30^\\circ` is a half. Others stay."""
    return _TRIGONOMETRIC.sub(_in_radians, text) if _DEGREE.search(text) else text


def tighten(text: str) -> str:
    """One form of numbers, fractions, intervals, braces and spaces; a space stays only between letters and digits."""
    text = _LOOSE_SPACE.sub(r"\1\2", _DEGREE.sub("", text).strip())
    text = _without_redundant_braces(text)
    if _LONE_THOUSANDS.fullmatch(text):
        text = text.replace(",", "").replace(" ", "")
    text = _REALS.sub(r"(-\\infty,\\infty)", text)
    text = _E_NOTATION.sub(r"\1\\cdot10^{\2}", text)
    text = _SCRIPT.sub(r"\1{\2}", _EMPTY_SET.sub(r"\\emptyset", text))
    text = _FRACTION_NAME.sub(r"\\frac", text)
    text = _FRACTION_TOP.sub(r"\\frac{\1}", text)
    text = _FRACTION_BOTTOM.sub(r"\1{\2}", text)
    return _FRENCH_INTERVAL.sub(_interval, text)


def _compatible(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _separator(match: re.Match[str]) -> str:
    """`1{,}234` keeps its mark for the thousands rule; in `0{,}5` and `3{,}14` the mark is a decimal point."""
    digits = match[1]
    thousands = re.match(r"[0-9]{3}(?![0-9])", match.string[match.end() :])
    return match[0] if thousands and digits.lstrip("0") else f"{digits}."


def _in_radians(match: re.Match[str]) -> str:
    function, argument = match.groups()
    converted = _DEGREE.sub(r"\\cdot\\frac{\\pi}{180}", argument)
    return match[0] if converted == argument else rf"{function}({converted})"


def _interval(match: re.Match[str]) -> str:
    """French `]0,1[` as `(0,1)`; an interval whose brackets face inward stays."""
    left, ends, right = match.groups()
    return ("(" if left == "]" else "[") + ends + (")" if right == "[" else "]")


def _without_redundant_braces(text: str) -> str:
    """`{{x}}` as `{x}`, and no braces around the whole; escaped braces are left alone. One pass."""
    partner: dict[int, int] = {}
    opened: list[int] = []
    for brace in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        if brace[0] == "{":
            opened.append(brace.start())
        elif brace[0] == "}" and opened:
            partner[opened.pop()] = brace.start()
    redundant = {i for i in partner if partner.get(i + 1) == partner[i] - 1}
    outer = 0
    while partner.get(outer) == len(text) - 1 - outer:
        redundant.add(outer)
        outer += 1
    drop = redundant | {partner[i] for i in redundant}
    return "".join(c for i, c in enumerate(text) if i not in drop)
