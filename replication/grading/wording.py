"""Words around an answer: units, currencies, percent and lead-ins go, words that carry meaning stay.

Every step rewrites text; nothing here evaluates anything.
"""

from __future__ import annotations

import re

_TEXT_MACRO = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|sc|normal|up|md)|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox|emph|boldsymbol|bm)\s*(?=\{)"
)
_FONT_SWITCH = re.compile(r"\{ *\\(?:rm|bf|it|sf|tt)(?![A-Za-z]) *([^{}]*)\}")
_TEXT = re.compile(r"\\text *\{([^{}]*)\}")
_AND_OR = re.compile(r"(?:, *)?\\text *\{ *,? *(?:and|or) *\}")

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
)
_ONES += " eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBER_WORDS = {word: number for number, word in enumerate(_ONES.split())} | {
    f"{tens}-{ones}" if one else tens: 20 + 10 * place + one
    for place, tens in enumerate(_TENS.split())
    for one, ones in enumerate(_ONES.split()[:10])
}

# A text that holds one of these, or a number, is part of the answer's meaning and never taken for a unit.
_MEANING = re.compile(
    r"\b(?:or|and|not|no|none|nor|if|unless|except|but|when|where|for|to|than|least|most|less|more|fewer|greater|plus|"
    r"minus|negative|times|is|are|was|dozens?|hundred(?:th)?s?|thousand(?:th)?s?|[mb]illion(?:th)?s?|trillions?|lakh|"
    r"crore|gross|score|pairs?|squared|cubed|factorial|mod|modulo|base|choose|half|halves|thirds?|quarters?|fifths?|"
    r"sixths?|sevenths?|eighths?|ninths?|tenths?|root|sqrt|log|pi|over|divided|multiplied|twice|doubled?|point|points|"
    r"recurring|repeating|below|wrong|incorrect|impossible|either|alternatively|versus|vs|any|all|maybe|possibly|else|"
    r"nan|inf|infinity|i|e|d|(?-i:k)|x|y|z|xy|ab|" + "|".join(_NUMBER_WORDS) + r")\b|n't\b|\b[0-9]|^-|‰",
    re.IGNORECASE,
)
_POWER = r"(?: *\^ *(?:\{ *-?[0-9] *\}|-?[0-9]))?"
_TEXT_UNIT = re.compile(
    r"(?<=[0-9)}%a-z!]) *(?:/|\\cdot|\\times)? *(?:\\mu *)?\\text *\{(?P<unit>(?:[^{}]|\{[^{}]*\})*)\}"
    + _POWER
    + r" *(?=$|[.,;)/}\]]|\\cdot|\\text)"
)
_FRACTION_UNIT = re.compile(
    r"(?<=[0-9)}]) *\\[dt]?frac *\{ *\\text *\{(?P<unit>[^{}]*)\} *\} *\{ *\\text *\{[^{}0-9]*\}" + _POWER + r" *\}$"
)
_PLAIN_UNIT = re.compile(
    r"(?<=[0-9)}]) *(?:(?:square|sq\.?|cubic|cu\.?) )?(?:mm|cm|dm|km|ft|kg|mg|ml|mL|lbs?|oz|mi|yd|hrs?|mph|km/h|m/s|"
    r"inch(?:es)?|feet|foot|yards?|miles?|(?:centi|milli|kilo|deci)?met(?:er|re)s?|(?:milli)?lit(?:er|re)s?|gallons?|"
    r"pounds?|ounces?|(?:kilo|milli)?grams?|tons?|seconds?|sec|minutes?|min|hours?|days?|weeks?|months?|years?|"
    r"degrees?|radians?|units?|dollars?|cents?|euros?|rupees?|USD|EUR|people|ways)" + _POWER + r"$"
)
_DEGREES = re.compile(r" *\^ *(?:\{ *\\circ *\}|\\circ) *(?:[CFK]|\\text *\{ *[CFK] *\})?$| *\\degrees?$")
_SYMBOL_UNIT = re.compile(r"(?<=[0-9)}]) *(?:\\text *\{ *[kMmGn] *\} *)?\\(?:Omega|AA|ohm)" + _POWER + r"$")
_CURRENCY = re.compile(r"^(?:Rs\.?|USD|US|EUR|GBP|INR|\\pounds|\\euro)(?![a-zA-Z]) *| *\\(?:pounds|euro)$")
_PERCENT_WORD = re.compile(
    r"\\text *\{ *(?:\\?%|(?:percent|per cent|percentage|pct)\.?) *\}|\b(?:percent(?:age)?|per cent|pct)\b|(?<!\\)%"
)
_TRAILING_STOPS = re.compile(r"[ .,;:]+$")
_FLOURISH = re.compile(r" *\\(?:checkmark|square|blacksquare|Box|qedsymbol|qed)$")
_INTRODUCTION = re.compile(
    r"^(?:\\(?:approx|simeq|therefore|implies|Rightarrow|Longrightarrow|rightarrow|to)(?![A-Za-z])|=) *"
)
_LEAD_IN_TEXT = re.compile(r"^\\text *\{(?P<words>[^{}]*?)(?:\b(?:is|are|equals)|=|:) *:? *\}(?=.)")
_LEAD_IN = re.compile(
    r"^(?P<words>(?:[A-Za-z]+ )*)(?:is|are|equals|answer ?:)(?: ?[:=])? ?(?=[^A-Za-z:= ]|[A-Za-z]\b)", re.IGNORECASE
)


def one_text_macro(text: str) -> str:
    """Every text and font macro as `\\text{...}`; a text that only says "and" or "or" as a comma; percent as `\\%`."""
    text = _FONT_SWITCH.sub(r"\\text{\1}", _TEXT_MACRO.sub(r"\\text", text))
    return _PERCENT_WORD.sub(r"\\%", _AND_OR.sub(",", text))


def drop_surroundings(text: str) -> str:
    """Without trailing stops, lead-ins ("the answer is"), units, degrees and currencies, as long as something stays."""
    previous = None
    if (lone := _TEXT.fullmatch(text)) and re.search(r"[0-9]|\bis:? \(?[A-E]\)?\.?$", lone[1]):
        text = lone[1].strip()  # "\\text{The answer is 5 cm}" is read like the same words outside of a text
    while previous != text:
        previous = text
        text = _TRAILING_STOPS.sub("", text)
        for lead_in in (_LEAD_IN_TEXT, _LEAD_IN):
            text = lead_in.sub(lambda match: match[0] if _MEANING.search(match["words"]) else "", text)
        text = _FRACTION_UNIT.sub(_without_unit, _TEXT_UNIT.sub(_without_unit, text))
        for pattern in (_PLAIN_UNIT, _SYMBOL_UNIT, _DEGREES, _CURRENCY, _INTRODUCTION, _FLOURISH):
            text = pattern.sub("", text) or text
        text = text.strip()
    return text


def unwrap_text(text: str) -> str:
    """`\\text{(073)}` as `(073)`, `\\text{two}` as `2`, `\\text{Even }` as `\\text{even}`: only words stay wrapped."""
    previous = None
    while previous != text:  # an unwrapped text may leave another one around it
        previous = text
        text = _TEXT.sub(lambda match: match[0] if re.search("[A-Za-z]{2}", match[1]) else match[1], text)
    if (lone := _TEXT.fullmatch(text)) or re.fullmatch("[A-Za-z]+(?:[- ][A-Za-z]+)?", text):
        word = " ".join((lone[1] if lone else text).casefold().strip(" .,;:!'\"()").split())
        if word.replace(" ", "-") in _NUMBER_WORDS:
            return str(_NUMBER_WORDS[word.replace(" ", "-")])
        return rf"\text{{{word}}}" if lone else text
    return text


def _without_unit(match: re.Match[str]) -> str:
    quantity = re.search(r"[0-9]|\\(?:pi|sqrt|frac)", match.string[: match.start()])
    unit = re.sub(_POWER[3:-2], "", match["unit"])  # the 2 of m^2 is no number of its own
    return match[0] if _MEANING.search(unit) or not quantity else ""
