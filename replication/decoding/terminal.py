"""A completion as it grows, in a terminal: erased text is struck through."""

from __future__ import annotations

import shutil
import unicodedata
from typing import Any, TextIO

from torch import Tensor

STRUCK, PLAIN = "\x1b[9;2m", "\x1b[0m"


class Terminal:
    """Shows one row of a rollout (a `rollout.protocol.Watcher`).

    In a terminal a segment is printed token by token, and struck through where it stands once it is erased, as far as
    it has not scrolled off the screen. Elsewhere (a file, a pipe) a segment is printed when it is judged, erased ones
    as `[-text-]`.
    """

    def __init__(self, tokenizer: Any, stream: TextIO, row: int = 0):
        self.tokenizer, self.stream, self.row = tokenizer, stream, row
        self.live = stream.isatty()
        self.kept: list[int] = []
        self.pending: list[int] = []
        self.before = self.shown = ""  # text of the accepted segments; text of this segment that is on the screen
        self.column = self.start = 0  # of the cursor, and where this segment begins
        self.lead = 0  # characters of this segment before that place: a line's end at the right margin

    def sampled(self, rows: Tensor, tokens: Tensor) -> None:
        """Append this row's token."""
        for place in (rows == self.row).nonzero().flatten().tolist():
            self.pending.append(int(tokens[place]))
            if self.live:
                text = self._pending_text().rstrip("\ufffd")  # half of a character: its rest comes with the next token
                if text.startswith(self.shown):
                    if text and not self.shown:
                        self._leave_margin(text)
                    self._write(text[len(self.shown) :])
                    self.shown = text

    def erased(self, rows: Tensor) -> None:
        """Strike this row's segment through."""
        if self.row not in rows.tolist():
            return
        text = self._pending_text()
        if self.live:
            self.stream.write(STRUCK)
            self._write(text[self._back_to_start() :])
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
        self.pending, self.shown, self.start, self.lead = [], "", self.column, 0

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _pending_text(self) -> str:
        return self._text(self.kept + self.pending)[len(self.before) :]

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
        _, self.column = _walk(text, self.column)

    def _leave_margin(self, text: str) -> None:
        """Before a segment's first character: a cursor behind the last column goes down now, since no way leads back
        to where it is."""
        if self.column == shutil.get_terminal_size().columns:
            self.lead = int(text[0] == "\n")
            self.shown = text[: self.lead]
            self._write("\n")
            self.start = 0

    def _back_to_start(self) -> int:
        """Clear what the screen shows of this segment; returns the place in its text where that begins."""
        rows, _ = _walk(self.shown[self.lead :], self.start)
        up, first, column = len(rows), self.lead, self.start
        if up >= (height := shutil.get_terminal_size().lines):  # the rows before have left the screen
            up, first, column = height - 1, self.lead + rows[-height], 0
        if self.shown:
            self.stream.write((f"\x1b[{up}A" if up else "") + f"\x1b[{column + 1}G\x1b[J")
            self.column = column
        return first


def _walk(text: str, column: int) -> tuple[list[int], int]:
    """Where in `text` the cursor has come to a new row by printing it from a column, and the column that it ends in."""
    width, rows = shutil.get_terminal_size().columns, []
    for place, character in enumerate(text):
        if character == "\n":
            rows.append(place + 1)
            column = 0
            continue
        size = 2 if unicodedata.east_asian_width(character) in "WF" else int(not unicodedata.combining(character))
        if column + size > width:
            rows.append(place)
            column = 0
        column += size
    return rows, column
