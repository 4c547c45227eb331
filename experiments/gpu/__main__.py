"""One command for a machine with a GPU: everything that is open there, measured, within a time.

    python -m experiments.gpu --out DIR                      # in order of worth, as far as eight minutes reach
    python -m experiments.gpu --only trl,flex --out DIR      # some of it, added to what is there
    python -m experiments.gpu --tiny --out DIR               # the same code at tiny shapes on a CPU

What it should show: docs/gpus.md. It needs no network and no data. Rows come to DIR/gpu.jsonl as they are measured, all
of them to DIR/gpu.json after each group; DIR/gpu.log has what the groups print. Exit code 1 where a group failed.
"""

from __future__ import annotations

import sys
import time
from argparse import RawDescriptionHelpFormatter
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from experiments.gpu import machine, processes, table
from experiments.gpu.groups import GROUPS, Setting
from experiments.gpu.rows import (
    FAILED,
    MEASURED,
    REPORT,
    ROWS,
    SKIPPED,
    Rows,
    check_same,
    forget,
    read_rows,
    write_report,
)
from replication.errors import Parser, UserError, run_command
from replication.outputs import check_file_output

LATE = "begun too late"


def main() -> None:
    parser = Parser(prog="python -m experiments.gpu", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the rows")
    parser.add_argument("--seconds", type=float, default=480, help="of the whole run")
    parser.add_argument("--only", help=f"groups, with commas between: {', '.join(GROUPS)}")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, on a CPU too")
    parser.add_argument("--smollm2", type=Path, help="SmolLM2-135M as experiments/smollm2.py unpacks it: the real run")
    parser.add_argument("--trl", help="Python of an environment with TRL; this one if it has it")
    options = parser.parse_args()
    wanted = wanted_groups(options.only)
    if not options.seconds > 0:
        raise UserError(f"--seconds {options.seconds:g}: give a positive number")
    if options.smollm2 is not None and not (options.smollm2 / "config.json").exists():
        raise UserError(f"--smollm2 {options.smollm2} holds no model: python experiments/smollm2.py makes it")
    if options.trl is not None and not Path(options.trl).exists():
        raise UserError(f"--trl {options.trl} does not exist: name the Python of an environment with TRL")
    check_file_output(options.out / ROWS)
    options.out.mkdir(parents=True, exist_ok=True)
    out, smollm2 = options.out.resolve(), options.smollm2 and options.smollm2.resolve()
    setting = Setting(out, out, options.seconds, options.tiny, smollm2, options.trl)
    report = run(setting, wanted)
    print("\n" + "\n".join(table.lines(report)))
    print(f"-> {options.out / REPORT}")
    late = [row["group"] for row in report["rows"] if row["state"] == SKIPPED and LATE in row["note"]]
    if late:
        print(f"too late for {', '.join(late)}: the same command with --only {','.join(late)} adds them")
    sys.exit(any(row["state"] == FAILED for row in report["rows"]))


def wanted_groups(only: str | None) -> list[str]:
    """The groups that are asked for, in the order of their worth."""
    asked = list(GROUPS) if only is None else only.split(",")
    for name in asked:
        if name not in GROUPS:
            raise UserError(f"--only {only}: there is no group {name!r}; there are {', '.join(GROUPS)}")
    return [name for name in GROUPS if name in asked]


def run(setting: Setting, wanted: list[str]) -> dict[str, Any]:
    """Run the groups one after the other, and write the report."""
    begun, out = time.monotonic(), setting.out
    context, about = machine.found(setting.tiny)
    check_same(out, about)
    shown = 0

    def report() -> dict[str, Any]:
        return write_report(out, about, date.today().isoformat(), list(GROUPS))

    def look() -> None:
        nonlocal shown
        rows = read_rows(out)
        for row in rows[shown:]:
            print(f"[{time.monotonic() - begun:4.0f} s] {row['group']}: {table.line(row)}", flush=True)
        shown = len(rows)

    for name in wanted:
        group, left = GROUPS[name], begun + setting.seconds - time.monotonic()
        late = left < group.least
        if late and any(row["group"] == name and row["state"] == MEASURED for row in read_rows(out)):
            continue  # of an earlier run
        forget(out, name)
        shown = len(read_rows(out))
        if late:
            Rows(out, name).skipped(f"{LATE}: {max(left, 0):.0f} s were left, and it takes {group.least:.0f}")
            look()
            continue
        seconds = left if setting.tiny else min(group.most, left)  # a small machine may be busy with other things
        processes.run_group(context, name, group, replace(setting, seconds=seconds), look)
        report()
    return report()


if __name__ == "__main__":
    run_command(main)
