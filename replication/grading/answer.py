"""Find the answer a completion commits to: the last balanced box after its thinking."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# One token per match, so that `\{` and `\\` never count as braces. A bare box (`\boxed 42`) must be followed by
# something an answer can start with, so that "put it in \boxed." is not one.
_TOKEN = re.compile(
    r"(?P<box>\\(?:boxed|f(?:rame)?box)\s*\{)"
    r"|(?P<bare>\\(?:boxed|f(?:rame)?box)(?![A-Za-z])[ \t]*(?=[-+(\\0-9]|\.[0-9]|[A-Za-z]\b))"
    r"|\\.|(?P<open>\{)|(?P<close>\})",
    re.DOTALL,
)
_GAP = r"(?:\s|[$,;~*]|\\[ ,;:!()\[\]]|\\q?quad(?![A-Za-z])){0,20}"
_OR = rf"{_GAP}(?:\\(?:text[a-z]*|mathrm|mbox)\s*\{{\s*or\s*\}}|\bor\b){_GAP}"
_ONLY_OR = re.compile(_OR, re.IGNORECASE)
_BARE_END = re.compile(r"\$|\n|\\\)|\\\]|(?: or )?\\(?:boxed|f(?:rame)?box)(?![A-Za-z])|\Z")
_NOTHING = re.compile(r"(?:\s|\$|~|\\[ ,;:!()\[\]]|\\q?quad|\\text\s*\{\s*\}|\{|\})*")


class _Box(NamedTuple):
    start: int
    content: int
    content_end: int
    end: int


def extract_answer(completion: str) -> str | None:
    """The content of the last balanced `\\boxed{...}` or `\\fbox{...}` after the last `</think>`, stripped.

    Boxes with nothing but "or" between them are one answer, "a or b". None when the thinking never closed or when the
    last box holds nothing. Prose is never searched. Linear in the text.
    """
    final = completion[completion.rfind("</think>") + len("</think>") :] if "</think>" in completion else completion
    if "<think>" in final:
        return None
    boxes = sorted(_boxes(final))  # a box in a box comes after it, and so counts
    if not boxes or _NOTHING.fullmatch(final, boxes[-1].content, boxes[-1].content_end):
        return None
    choices = [final[boxes[-1].content : boxes[-1].content_end].strip()]
    for box, following in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        if not _ONLY_OR.fullmatch(final, box.end, following.start):
            break
        choices.append(final[box.content : box.content_end].strip())
    return r" \text{ or } ".join(dict.fromkeys(filter(None, reversed(choices))))


def _boxes(text: str) -> Iterator[_Box]:
    """Every box that closes; one without braces ends with its formula or line, or before the next box."""
    open_braces: list[tuple[int, int] | None] = []  # (box start, content start) for a box, None for any other brace
    for token in _TOKEN.finditer(text):
        if token["box"] is not None:
            open_braces.append(token.span())
        elif token["bare"] is not None:
            bare_end = _BARE_END.search(text, token.end())
            assert bare_end is not None  # the end of the text at the latest
            end = bare_end.start()
            yield _Box(token.start(), token.end(), end, end)
        elif token["open"] is not None:
            open_braces.append(None)
        elif token["close"] is not None and open_braces and (box := open_braces.pop()):
            yield _Box(*box, token.start(), token.end())
