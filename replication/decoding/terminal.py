"""A completion as it grows, in a terminal: erased text is struck through."""

from __future__ import annotations

import shutil
import unicodedata
from typing import Any, TextIO

from torch import Tensor

STRUCK, PLAIN = "\x1b[9;2m", "\x1b[0m"


class Terminal:
    """Shows one row of a rollout (a `rollout.judge.Watcher`).

    In a terminal a segment is printed token by token, and struck through where it stands once it is erased. Elsewhere
    (a file, a pipe) a segment is printed when it is judged, erased ones as `[-text-]`.
    """

    def __init__(self, tokenizer: Any, stream: TextIO, row: int = 0):
        self.tokenizer, self.stream, self.row = tokenizer, stream, row
        self.live = stream.isatty()
        self.kept: list[int] = []
        self.pending: list[int] = []
        self.before = self.shown = ""  # text of the accepted segments; text of this segment that is on the screen
        self.column = self.start = 0  # of the cursor, and where this segment begins

    def sampled(self, rows: Tensor, tokens: Tensor) -> None:
        """Append this row's token."""
        for place in (rows == self.row).nonzero().flatten().tolist():
            self.pending.append(int(tokens[place]))
            if self.live:
                text = self._pending_text().rstrip("\ufffd")  # half of a character: its rest comes with the next token
                if text.startswith(self.shown):
                    self._write(text[len(self.shown) :])
                    self.shown = text

    def erased(self, rows: Tensor) -> None:
        """Strike this row's segment through."""
        if self.row not in rows.tolist():
            return
        text = self._pending_text()
        if self.live:
            self._back_to_start(self.shown)
            self.stream.write("\x1b[J" + STRUCK)
            self._write(text)
            self.stream.write(PLAIN)
        else:
            self._write(f"[-{text}-]")
        self.stream.flush()
        self._begin([])

    def accepted(self, rows: Tensor) -> None:
        """Keep this row's segment."""
        if self.row in rows.tolist():
            self._write(self._pending_text()[len(self.shown) :])
            self._begin(self.pending)

    def _begin(self, kept: list[int]) -> None:
        self.kept += kept
        self.before = self._text(self.kept)
        self.pending, self.shown, self.start = [], "", self.column

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _pending_text(self) -> str:
        return self._text(self.kept + self.pending)[len(self.before) :]

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
        _, self.column = _walk(text, self.column)

    def _back_to_start(self, text: str) -> None:
        rows, _ = _walk(text, self.start)
        up = f"\x1b[{rows}A" if rows else ""
        self.stream.write(f"{up}\x1b[{self.start + 1}G")
        self.column = self.start


def _walk(text: str, column: int) -> tuple[int, int]:
    """Rows that the cursor moves down by printing `text` from a column, and the column that it ends in."""
    width, rows = shutil.get_terminal_size().columns, 0
    for character in text:
        if character == "\n":
            rows, column = rows + 1, 0
            continue
        size = 2 if unicodedata.east_asian_width(character) in "WF" else int(not unicodedata.combining(character))
        if column + size > width:
            rows, column = rows + 1, 0
        column += size
    return rows, column
