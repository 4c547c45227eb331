"""`python -m replication.compare A B`: what run A gains over run B on the same problems, and how sure that is.

A and B are folders of `replication.evaluate`, with a mode where one is meant: runs/evaluate/tiny/e3rl/0:erased.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from replication.errors import Parser, UserError, run_command
from replication.outputs import check_file_output, write_whole


class Side(NamedTuple):
    """The samples of one benchmark in one mode of a run."""

    problems: list[tuple[str, str | None]]  # id and reference
    correct: Any  # [P, k] booleans
    answers: list[list[str | None]]
    tokens: float  # a sample, erased ones included


def read_run(folder: str) -> dict[tuple[str, str], Side]:
    """(benchmark, mode) -> samples of a run."""
    import torch

    from replication.evaluation.samples import answers_by_problem, cells, correct_by_problem, read_samples, spent

    out = {}
    for benchmark, mode, unordered in cells(read_samples(Path(folder))):
        rows = sorted(unordered, key=lambda row: str(row["problem"]))
        hits = correct_by_problem(rows)
        tokens = sum(map(spent, rows)) / len(rows)
        problems = list(dict.fromkeys((str(row["problem"]), row.get("gold")) for row in rows))
        out[benchmark, mode] = Side(problems, torch.tensor(list(hits.values())), answers_by_problem(rows), tokens)
    return out


def pairs(a: str, b: str) -> list[tuple[str, Side, Side]]:
    """The cells of two runs that belong together: same benchmark, and same mode unless another is named."""
    (folder, mode), (other_folder, other_mode) = (
        (name, "") if Path(name).is_dir() else name.rpartition(":")[::2] for name in (a, b)
    )
    folder, other_folder, found = folder or a, other_folder or b, []
    mine, theirs = read_run(folder), read_run(other_folder)
    for (benchmark, ours), side in mine.items():
        against = other_mode or ours
        if ours != (mode or ours) or (benchmark, against) not in theirs:
            continue
        if side.problems != theirs[benchmark, against].problems:
            raise UserError(f"{benchmark}: {a} and {b} hold different problems: evaluate them on the same ones")
        if len(side.problems) < 2:
            raise UserError(f"{benchmark}: one problem gives no interval over problems: evaluate more of them")
        name = f"{benchmark}, {ours}" + ("" if ours == against else f" against {against}")
        found.append((name, side, theirs[benchmark, against]))
    if not found:
        held = "; ".join(
            f"{name} holds {', '.join(f'{benchmark} {mode}' for benchmark, mode in run)}"
            for name, run in ((folder, mine), (other_folder, theirs))
        )
        raise UserError(f"{a} and {b} share no benchmark and mode ({held}): name a mode of each, FOLDER:MODE")
    return found


def gains(a: Side, b: Side) -> dict[str, Any]:
    """metric -> interval of A minus B, paired over problems; the last two at equal tokens.

    There A and B draw as many samples as the cheaper run's k completions pay for.
    """
    from replication.evaluation.metrics import majority_at_k, pass_at_k
    from replication.evaluation.statistics import bootstrap

    budget = min(side.tokens * side.correct.shape[1] for side in (a, b))
    passed, voted, drawn = [], [], []
    for side in (a, b):
        k = max(1, min(side.correct.shape[1], int(budget / side.tokens + 1e-9)))
        drawn.append(k)
        passed.append(pass_at_k(side.correct.sum(1), side.correct.shape[1], k).numpy())
        voted.append(majority_at_k(side.answers, side.correct, k).numpy())
    average = [side.correct.double().mean(1).numpy() for side in (a, b)]
    at = f"at {budget:.0f} tokens ({drawn[0]} against {drawn[1]} samples)"
    columns = {"Avg@k": average, f"Pass {at}": passed, f"Maj {at}": voted}
    return {metric: bootstrap(ours - theirs) for metric, (ours, theirs) in columns.items()}


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns of even width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def main() -> None:
    parser = Parser(prog="python -m replication.compare", description="What run A gains over run B.")
    parser.add_argument("a", help="folder of an evaluation, or folder:mode")
    parser.add_argument("b", help="the one it is held against")
    parser.add_argument("--claimed", type=float, default=0.02, help="a gain below it is not worth the name")
    parser.add_argument("--out", type=Path, help="the same as JSON lines")
    options = parser.parse_args()
    if not 0 < options.claimed < math.inf:
        raise UserError(f"--claimed {options.claimed}: give a gain above 0")
    if options.out:
        check_file_output(options.out)
    from replication.evaluation.statistics import verdict

    rows, found = [["benchmark, mode", "metric", "A - B [95 %, over problems]", "a gain is"]], []
    for name, a, b in pairs(options.a, options.b):
        for metric, gain in gains(a, b).items():
            word = verdict(gain, options.claimed)
            rows.append([name, metric, str(gain), word])
            found.append({"cell": name, "metric": metric, **gain._asdict(), "verdict": word})
    print(table(rows))
    if options.out:
        write_whole(options.out, "".join(json.dumps(row) + "\n" for row in found))


if __name__ == "__main__":
    run_command(main)
