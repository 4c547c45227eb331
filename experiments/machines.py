"""`make machines`: does the small default give the same numbers on other machines, and with other seeds?

    python -m experiments.machines            prepare, warm start and evaluation of the untrained policies: minutes
    python -m experiments.machines --full     the training as well: an hour on 2 cores; resumable
    python -m experiments.machines --only avx2 default

A machine is simulated by what decides how floating-point sums are rounded: the instructions that torch, MKL and oneDNN
may use, and the number of threads. Each run has a folder of its own in .scratch/machines, with a copy of the code, and
is DVC's `repro` of the whole pipeline there. Two machines (onednn, threads) and other warm starts train nothing.

The table has every metric with its spread. It is red, and the exit code 1, where the mean of a machine or of other
seeds lies outside the range that the gate asks for (reports/reference.json), or where their verdicts differ. Another
warm start is another policy: it is shown and not judged. reports/machines.json keeps the table of a full run, and
`python -m replication.check --record` takes the gate's ranges from it. With `--add` the table keeps the runs that were
made before, on another processor say. `--take intel=reports/metrics.json` adds the metrics of a `make repro` on a
processor that is not simulated, and runs nothing itself:

    python -m experiments.machines --take intel=reports/metrics.json --add --out reports/machines.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf, nan
from pathlib import Path
from typing import Any, NoReturn

import yaml

from replication.errors import Parser, UserError, run_command
from replication.evaluation.statistics import Interval, verdict
from replication.gate.record import DIFFERENCES, KINDS, intervals
from replication.gate.reference import KEYS, read_json, read_reference
from replication.outputs import locked

ROOT = Path(__file__).parents[1]
PLACES = Path(".scratch/machines")
REFERENCE = Path("reports/reference.json")
CPU = Path("/proc/cpuinfo")
READ = (REFERENCE, Path("reports/bench.json"), Path("docs/ledger.md"))  # what the report depends on beside the runs
RED, PLAIN = "\033[31m", "\033[0m"


@dataclass(frozen=True)
class Variant:
    """One way to run the default: a simulated machine, other seeds, or another warm start."""

    kind: str  # machine, seeds, or warm start
    env: dict[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)  # of the training
    warm_start: int = 0
    threads: int = 1
    needs: str = ""  # what the processor must have
    trains: bool = True  # whether --full trains there


VARIANTS = {
    "avx512": Variant("machine", {"ATEN_CPU_CAPABILITY": "avx512"}, needs="avx512f"),
    "avx2": Variant("machine", {"ATEN_CPU_CAPABILITY": "avx2"}, needs="avx2"),
    "default": Variant("machine", {"ATEN_CPU_CAPABILITY": "default"}),
    "mkl": Variant("machine", {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "avx2"}, needs="avx2"),
    "onednn": Variant("machine", {"ONEDNN_MAX_CPU_ISA": "SSE41"}, trains=False),
    "threads": Variant("machine", threads=2, trains=False),
    "seeds345": Variant("seeds", seeds=(3, 4, 5)),
    "seeds678": Variant("seeds", seeds=(6, 7, 8)),
    "warmstart1": Variant("warm start", warm_start=1, trains=False),
    "warmstart2": Variant("warm start", warm_start=2, trains=False),
}
Table = dict[str, dict[str, Interval]]  # metric -> run -> interval


def can_run(variant: Variant) -> bool:
    """Whether this processor has the instructions that the variant asks for."""
    return not variant.needs or (CPU.exists() and variant.needs in CPU.read_text().split())


def settings_of(variant: Variant, full: bool, bases: Sequence[str]) -> dict[str, Any]:
    """params.yaml as the variant has it."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["matrix"]["seeds"] = list(variant.seeds)
    if bases:
        params["matrix"]["bases"] = list(bases)
    if not full:
        params["matrix"]["models"] = []
    for name in params["matrix"]["bases"]:
        model = params["models"][name] = json.loads(json.dumps(params["models"][name]))  # anchors are shared
        model["policy"]["cpu_threads"] = variant.threads
        model["warmstart"]["seed"] = variant.warm_start
    return params


def set_up(place: Path, params: dict[str, Any]) -> None:
    """A folder with the code, the pipeline and the settings, where DVC can run."""
    (place / "runs/train").mkdir(parents=True, exist_ok=True)  # the report asks for it, though nothing be trained
    shutil.rmtree(place / "replication", ignore_errors=True)
    shutil.copytree(ROOT / "replication", place / "replication", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (Path("dvc.yaml"), *READ):
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, place / path)
    (place / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    if not (place / ".dvc").exists():
        subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=place, check=True)


def run(name: str, full: bool, bases: Sequence[str] = ()) -> dict[str, Any]:
    """Run the pipeline of a variant, or what is left of it, and return its metrics.

    Raises:
        UserError: it failed, its log says why; or another process is at work there.
    """
    with locked(PLACES / name):
        return _run(VARIANTS[name], name, full, bases)


def _run(variant: Variant, name: str, full: bool, bases: Sequence[str]) -> dict[str, Any]:
    place = PLACES / name
    set_up(place, settings_of(variant, full, bases))
    env = {**os.environ, **variant.env, "PYTHONPATH": str(place.resolve()), "DVC_NO_ANALYTICS": "1"}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"  # dvc.yaml's `python` is this one
    env["DVC_SITE_CACHE_DIR"] = str((place / ".scratch/dvc").resolve())
    print(f"{name}: started, log in {place / 'log'}", flush=True)
    with (place / "log").open("w") as log:
        command = [sys.executable, "-m", "dvc", "repro"]
        done = subprocess.run(command, cwd=place, env=env, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        raise UserError(f"{name}: dvc repro failed, see {place / 'log'}; the same command goes on")
    print(f"{name}: done", flush=True)
    return dict(read_json(place / "reports/metrics.json"))


def table_of(metrics: dict[str, dict[str, Any]]) -> Table:
    """Metric -> run -> interval, from each run's metrics."""
    table: Table = {}
    for name, found in metrics.items():
        for path, interval in intervals(found):
            table.setdefault("/".join(path), {})[name] = interval
    return table


def gates_ranges(path: Path) -> dict[str, tuple[float, float]]:
    """Metric -> where its mean may lie."""
    return {"/".join(row[key] for key in KEYS): (row["low"], row["high"]) for row in read_reference(path)["default"]}


def page(table: Table, variants: Mapping[str, Variant], ranges: dict[str, tuple[float, float]]) -> tuple[str, int]:
    """The table as text, and how many of its rows are red."""
    width, red = max(map(len, table)), 0
    lines = [f"{'metric':{width}}  {'gate':16}  least   most    spread  other warm starts"]
    for name, row in table.items():
        judged = {run: interval for run, interval in row.items() if variants[run].kind in KINDS}
        means, others = {run: i.mean for run, i in judged.items()}, [row[run].mean for run in row if run not in judged]
        *_, mode, metric = name.split("/")
        low, high = ranges.get(name, (-inf, inf))
        wrong = [f"outside: {run}" for run, mean in means.items() if not low <= mean <= high]
        told_of = metric in DIFFERENCES and "@" not in mode and "average" not in name
        reached = table.get(f"{name.removesuffix(metric)}avg", {})  # so that what it is a gain over has the rest
        words = {verdict(i, room=1 - reached[run].mean + i.mean) for run, i in judged.items()} if told_of else set()
        wrong += [f"verdicts: {', '.join(sorted(words))}"] if len(words) > 1 else []
        red += bool(wrong)
        spread = [min(means.values(), default=nan), max(means.values(), default=nan)]
        gate = f"[{low:.3f}, {high:.3f}]" if name in ranges else "none"
        line = f"{name:{width}}  {gate:16}  {spread[0]:<6.3f}  {spread[1]:<6.3f}  "
        line += f"{spread[1] - spread[0]:<6.3f}  {' '.join(f'{mean:.3f}' for mean in others)}"
        lines.append(f"{RED}{line}  {', '.join(wrong)}{PLAIN}" if wrong else line)
    return "\n".join(lines), red


def write(path: Path, table: Table, variants: Mapping[str, Variant], add: bool) -> None:
    """Keep the table, a line a metric; with what it held of other runs, or without."""
    before = read_json(path) if add else {"runs": {}, "metrics": {}}
    every = before["runs"] | {name: vars(variant) for name, variant in variants.items()}
    about = [f'  "{name}": {json.dumps(every[name])}' for name in every]
    rows = []
    for metric, row in table.items():
        found = before["metrics"].get(metric, {}) | {run: [round(number, 5) for number in row[run]] for run in row}
        rows.append(f'  "{metric}": {json.dumps({run: found[run] for run in every if run in found})}')
    rows += [f'  "{name}": {json.dumps(row)}' for name, row in before["metrics"].items() if name not in table]
    text = '{"runs": {\n' + ",\n".join(about) + '\n},\n"metrics": {\n' + ",\n".join(rows) + "\n}}\n"
    path.write_text(text)


def finish(found: dict[str, dict[str, Any]], variants: Mapping[str, Variant], out: Path | None, add: bool) -> NoReturn:
    """Print the runs' table, write it, and leave with 1 if something is red."""
    table = table_of(found)
    text, red = page(table, variants, gates_ranges(REFERENCE))
    print(text)
    if out:
        write(out, table, variants, add)
    print(f"{len(table)} metrics of {len(found)} runs, {red} of them red" + (f" -> {out}" if out else ""))
    sys.exit(1 if red else 0)


def named(text: str) -> tuple[str, Path]:
    """NAME=FILE, for a parser of arguments."""
    name, equals, path = text.partition("=")
    if not (name and equals and path) or name in VARIANTS:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=FILE with a name of its own")
    return name, Path(path)


def main() -> None:
    parser = Parser(prog="python -m experiments.machines", description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="train as well")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="RUN", help="some runs")
    parser.add_argument("--bases", nargs="+", default=[], metavar="MODEL", help="other models than the matrix's")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--out", type=Path, default=None, help="the table, reports/machines.json with --full")
    parser.add_argument("--add", action="store_true", help="to the runs that the table has already")
    parser.add_argument("--take", nargs="+", type=named, default=[], metavar="NAME=FILE", help="metrics made elsewhere")
    arguments = parser.parse_args()
    if arguments.take:
        found = {name: dict(read_json(path)) for name, path in arguments.take}
        finish(found, {name: Variant("machine") for name in found}, arguments.out, arguments.add)
    names = [name for name in arguments.only if can_run(VARIANTS[name])]
    for name in set(arguments.only) - {*names}:
        print(f"{name}: this processor has no {VARIANTS[name].needs}")
    if not arguments.full:
        names = [name for name in names if VARIANTS[name].kind != "seeds"]  # of the training
    if not names:
        raise UserError(f"nothing is left to run of {', '.join(arguments.only)}: name others by --only")
    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        asked = [pool.submit(run, n, arguments.full and VARIANTS[n].trains, arguments.bases) for n in names]
        try:
            runs = [future.result() for future in asked]
        except UserError:
            pool.shutdown(cancel_futures=True)
            raise
    whole = arguments.full and not arguments.bases and arguments.only == list(VARIANTS)
    out = arguments.out or (Path("reports/machines.json") if whole else None)
    finish(dict(zip(names, runs, strict=True)), {name: VARIANTS[name] for name in names}, out, arguments.add)


if __name__ == "__main__":
    run_command(main)
