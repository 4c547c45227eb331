"""The rows of a run on a GPU as a table: for the terminal, and as a page.

python -m experiments.gpu.table DIR/gpu.json -> reports/gpu.md, and the JSON beside it
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from experiments.gpu.rows import FAILED, MEASURED, SKIPPED, Row, read_report
from replication.errors import Parser, run_command
from replication.outputs import write_whole

PAGE = Path("reports/gpu.md")
WHAT = """Made by `python -m experiments.gpu` and `python -m experiments.gpu.table`. What each group is for:
[docs/gpus.md](../docs/gpus.md). All weights but those of the group *real* are random. Each figure was measured once."""


def number(value: object) -> str:
    """Four digits of a number that is none of a few; a text as it is."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return str(value)


def line(row: Row) -> str:
    """A row as a line, without its group."""
    if row["state"] != MEASURED:
        return f"{row['state'].upper() if row['state'] == FAILED else row['state']}: {row['note']}"
    missed = "  MISSED" if row["met"] is False else ""
    wanted = f"  wanted {row['wanted']}{missed}" if row["wanted"] else ""
    return (
        f"{row['name']}: {number(row['value'])} {row['unit']}".rstrip()
        + wanted
        + (row["note"] and f"  ({row['note']})")
    )


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The whole as text, a row a line."""
    yield f"{'what':72} {'value':>12} unit, wanted"
    for row in report["rows"]:
        if row["state"] == MEASURED:
            missed = " MISSED" if row["met"] is False else ""
            unit = ", ".join(filter(None, (row["unit"], row["wanted"])))
            yield f"{row['group'] + ': ' + row['name']:72} {number(row['value']):>12} {unit}{missed}".rstrip()
        else:
            yield f"{row['group']:72} {row['state']:>12}: {row['note']}"


def page(report: dict[str, Any]) -> str:
    """reports/gpu.md."""
    about, rows = report["machine"], report["rows"]
    text = ["# On a GPU", "", WHAT, "",
            f"{report['date']}, {about['device']}.", "", "| | |", "|---|---|"]  # fmt: skip
    text += [f"| {key} | {_cell(value)} |" for key, value in about.items() if value is not None]
    for group, found in groupby((row for row in rows if row["state"] == MEASURED), key=lambda row: row["group"]):
        text += ["", f"## {group}", "", "| what | value | unit | wanted | note |", "|---|---|---|---|---|"]
        for row in found:
            wanted = row["wanted"] + {False: ", **missed**", True: ", met", None: ""}[row["met"]]
            cells = row["name"], number(row["value"]), row["unit"], wanted, row["note"]
            text.append(f"| {' | '.join(map(_cell, cells))} |")
    for state, title in ((FAILED, "Failed"), (SKIPPED, "Not run")):
        if some := [row for row in rows if row["state"] == state]:
            text += ["", f"## {title}", "", *(f"- {row['group']}: {row['note']}" for row in some)]
    return "\n".join(text) + "\n"


def _cell(value: object) -> str:
    """A value as a table's cell."""
    if isinstance(value, dict):
        value = ", ".join(f"{key} {number(found)}" for key, found in value.items())
    return number(value).replace("|", "\\|")


def main() -> None:
    parser = Parser(prog="python -m experiments.gpu.table", description=__doc__)
    parser.add_argument("report", type=Path, help="gpu.json of a run")
    parser.add_argument("--out", type=Path, default=PAGE, help="page to write; the JSON goes beside it")
    options = parser.parse_args()
    report = read_report(options.report)
    text = options.report.read_text(encoding="utf-8")
    write_whole(options.out, page(report))
    write_whole(options.out.with_suffix(".json"), text)
    print(f"-> {options.out}, {options.out.with_suffix('.json')}")


if __name__ == "__main__":
    run_command(main)
