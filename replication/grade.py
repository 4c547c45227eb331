"""Grade predictions in a file: `python -m replication.grade predictions.jsonl --out graded.jsonl`.

Rows that were graded before are graded again, and verdicts that changed are listed. So is an evaluation, with its
metrics: `python -m replication.grade runs/evaluate/tiny/e3rl/0 --out regraded`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from replication.data.answers import take_answer
from replication.data.values import parse_json, shown
from replication.errors import Parser, UserError, run_command
from replication.grading.pool import Graded, Grader
from replication.grading.verdict import Verdict
from replication.outputs import check_file_output, check_output, output_folder, write_whole

BATCH = 64  # rows graded between two updates of the progress bar

Row = dict[str, Any]


def read_predictions(path: Path) -> list[Row]:
    """The rows of a JSON-lines file, each with the texts `gold` and `prediction` (of a sample: `text`), perhaps with a
    `tolerance`; blank lines are skipped. What counts of a `gold` is `take_answer`'s, as of a prepared problem.

    Raises:
        UserError: the file cannot be read, or a line is not such a row.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): name a UTF-8 file with one JSON object a line") from error
    rows = [_row(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UserError(f"{path} is empty: put one object with `gold` and `prediction` on each line")
    return rows


def grade_rows(rows: list[Row], grader: Grader) -> list[Graded]:
    """The verdict on each row's prediction, with progress on standard error."""
    graded: list[Graded] = []
    with tqdm(total=len(rows), desc="grade", unit="row", mininterval=1) as bar:
        for first in range(0, len(rows), BATCH):
            batch = rows[first : first + BATCH]
            pairs = [(take_answer(row["gold"]), row[_field(row)]) for row in batch]
            graded += grader.grade_many(pairs, [row.get("tolerance") for row in batch])
            bar.update(len(batch))
    return graded


def changed_verdicts(rows: Sequence[Row], graded: Sequence[Graded]) -> list[str]:
    """A line for each row whose verdict is not what it was, the kinds of change with their counts first."""
    changes: dict[str, list[str]] = {}
    for number, (row, item) in enumerate(zip(rows, graded, strict=True), 1):
        if row.get("verdict", item.verdict) != item.verdict:
            where = (
                f"  row {number}: reference {row['gold'][:60]!r}, answer {(item.answer or '')[:60]!r} ({item.reason})"
            )
            changes.setdefault(f"{row['verdict']} -> {item.verdict}", []).append(where)
    return [line for change, where in sorted(changes.items()) for line in (f"{change}: {len(where)}", *where)]


def regrade(folder: Path, out: Path, rows: list[Row], graded: list[Graded]) -> None:
    """An evaluation's samples with new verdicts, and the metrics of them."""
    from replication.evaluation.samples import read_how, write_samples

    for row, item in zip(rows, graded, strict=True):
        row.update(verdict=item.verdict.value, answer=item.answer)
    with output_folder(out, "samples.jsonl") as new:
        write_samples(new, rows, read_how(folder))


def main() -> None:
    parser = Parser(prog="python -m replication.grade", description="Grade predictions in a file.")
    parser.add_argument("file", type=Path, help="JSON lines with the texts `gold` and `prediction`, or an evaluation")
    parser.add_argument("--out", type=Path, required=True, help="the same rows with verdict, answer, reason, seconds")
    parser.add_argument("--workers", type=int, default=2, help="processes for what text alone cannot decide")
    parser.add_argument("--time-limit", type=float, default=1.0, help="CPU seconds for one check")
    options = parser.parse_args()
    if options.workers < 1:
        raise UserError(f"--workers {options.workers}: give at least 1")
    if not 0 < options.time_limit < float("inf"):
        raise UserError(f"--time-limit {options.time_limit}: give a positive number of seconds")
    is_evaluation = options.file.is_dir()
    if is_evaluation:
        from replication.evaluation.samples import read_samples

        check_output(options.out, "samples.jsonl")
        read_samples(options.file)  # says what is missing before anything is graded
    else:
        check_file_output(options.out)
    if options.out.exists() and options.file.exists() and options.out.samefile(options.file):
        raise UserError(f"--out {options.out} is the input, which would be lost: name another place")

    rows = read_predictions(options.file / "samples.jsonl" if is_evaluation else options.file)
    with Grader(workers=options.workers, time_limit=options.time_limit) as grader:
        graded = grade_rows(rows, grader)
    again = sum("verdict" in row for row in rows)
    changes = changed_verdicts(rows, graded)
    if is_evaluation:
        regrade(options.file, options.out, rows, graded)
    else:
        lines = (json.dumps(row | _columns(item)) + "\n" for row, item in zip(rows, graded, strict=True))
        write_whole(options.out, "".join(lines))
    counts = Counter(item.verdict for item in graded)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)
    for line in changes:
        print(line)
    if again:
        print(f"of {again} graded before, {sum(line.startswith('  ') for line in changes)} changed")
    print(f"{len(rows)} graded: {summary}; written to {options.out}")


def _field(row: Row) -> str:
    """Where a row has its completion: of a sample in `text`."""
    return "prediction" if "prediction" in row or "text" not in row else "text"


def _row(line: str, where: str) -> Row:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise UserError(f"{where} is not JSON ({error}): put one object on each line") from None
    if not isinstance(row, dict):
        raise UserError(f"{where} is not an object: give it the fields `gold` and `prediction`")
    for field in ("gold", _field(row)):
        if not isinstance(row.get(field), str):
            found = f"is {shown(row[field])}" if field in row else "is missing"
            raise UserError(f"{where}: `{field}` {found}: give it as a string")
    try:
        take_answer(row["gold"])
    except ValueError as error:
        raise UserError(f"{where}: `gold`: {error}: give the answer alone") from None
    tolerance = row.get("tolerance")
    if tolerance is not None and not (type(tolerance) in (int, float) and 0 <= tolerance < math.inf):
        raise UserError(f"{where}: `tolerance` is {shown(tolerance)}: give it as a number >= 0")
    return row


def _columns(item: Graded) -> Row:
    return {
        "verdict": item.verdict,
        "answer": item.answer,
        "reason": item.reason,
        "seconds": round(item.seconds, 6),
    }


if __name__ == "__main__":
    run_command(main)
