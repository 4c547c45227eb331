"""A table of the page: shown rounded, downloaded in full."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from replication.evaluation.statistics import Interval

Value = str | int | float | Interval | None  # None: there is none


@dataclass(frozen=True)
class Row:
    """One line of a table, and what it is of: the page filters by that."""

    values: Sequence[Value]
    task: str = ""
    algorithm: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a caption; `name` is that of the file it is downloaded as."""

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]

    def is_interval(self, column: int) -> bool:
        """Whether a column holds intervals, which take three columns of the file."""
        return any(isinstance(row.values[column], Interval) for row in self.rows)

    def kinds(self) -> list[str]:
        """Whether each column holds numbers or long texts, as the style sheet names them; short texts have no name."""
        found = []
        for column in zip(*(row.values for row in self.rows), strict=True):
            longest = max((len(value) for value in column if isinstance(value, str)), default=0)
            found.append("long" if longest > 30 else "" if longest else "number")
        return found

    def csv(self) -> str:
        """All rows with all digits."""
        wide = [self.is_interval(i) for i in range(len(self.columns))]
        header: list[str] = []
        for name, triple in zip(self.columns, wide, strict=True):
            header += [name, f"{name}, low", f"{name}, high"] if triple else [name]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        for row in self.rows:
            cells: list[object] = []
            for value, triple in zip(row.values, wide, strict=True):
                cells += list(value) if isinstance(value, Interval) else [value, None, None] if triple else [value]
            writer.writerow(cells)
        return out.getvalue()


def shown(value: Value) -> str:
    """A value as people read it: shares with three digits, larger numbers with fewer."""
    if value is None:
        return "–"
    if isinstance(value, Interval):
        mean, low, high = (f"{number:{_digits(value.mean)}}" for number in value)
        return f"{mean} [{low}, {high}]"
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:{_digits(value)}}"


def _digits(size: float) -> str:
    if 0 < abs(size) < 5e-4:
        return ".1e"
    return ".3f" if abs(size) < 10 else ".1f" if abs(size) < 1000 else ",.0f"
