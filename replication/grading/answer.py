"""Find the answer a completion commits to: the last balanced box after its thinking."""

from __future__ import annotations

import re

# One token per match, so that `\{` and `\\` never count as braces. A bare box (`\boxed 42`) must be followed by
# something an answer can start with, so that "put it in \boxed." is not one.
_TOKEN = re.compile(
    r"(?P<box>\\(?:boxed|f(?:rame)?box)\s*\{)"
    r"|(?P<bare>\\(?:boxed|f(?:rame)?box)(?![A-Za-z])[ \t]*(?=[-+(\\0-9]|\.[0-9]|[A-Za-z]\b))"
    r"|\\.|(?P<open>\{)|(?P<close>\})",
    re.DOTALL,
)
_BARE_END = re.compile(r"\$|\n|\\\)|\\\]|\Z")
_NOTHING = re.compile(r"(?:\s|\$|~|\\[ ,;:!()\[\]]|\\q?quad|\\text\s*\{\s*\}|\{|\})*")


def extract_answer(completion: str) -> str | None:
    """The content of the last balanced `\\boxed{...}` or `\\fbox{...}` after the last `</think>`, stripped.

    None when the thinking never closed or when no box holds anything. Prose is never searched. Linear in the text.
    """
    final = completion[completion.rfind("</think>") + len("</think>") :] if "</think>" in completion else completion
    if "<think>" in final:
        return None
    answer = _last_box(final)
    if answer is None or _NOTHING.fullmatch(answer):
        return None
    return answer.strip()


def _last_box(text: str) -> str | None:
    """Content of the box that opens last among those that close; a box in a box therefore yields the inner one."""
    last_start, last_content = -1, None
    open_braces: list[tuple[int, int] | None] = []  # (box start, content start) for a box, None for any other brace
    for token in _TOKEN.finditer(text):
        if token["box"] is not None:
            open_braces.append((token.start(), token.end()))
        elif token["bare"] is not None:
            last_start, last_content = token.start(), None
            bare_content = token.end()
        elif token["open"] is not None:
            open_braces.append(None)
        elif token["close"] is not None and open_braces:
            box = open_braces.pop()
            if box is not None and box[0] > last_start:
                last_start, last_content = box[0], text[box[1] : token.start()]
    if last_start >= 0 and last_content is None:
        end = _BARE_END.search(text, bare_content)
        return text[bare_content : end.start()] if end else None
    return last_content
