"""`make bench`: the rollout engine beside transformers' own, and what erasing costs; ours and theirs in turns.

    python -m experiments.decoding.bench [--smollm2 runs/smollm2] [--only 'SmolLM2.*costs'] -> reports/bench.json

What it should show: at equal work the engine is never slower than `generate` or the continuous batching, the code for
erasing costs nothing while it is off, a regenerated token costs what a token costs, and it takes no memory.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from experiments.decoding import erasing, peers
from replication.config import PolicyConfig, RolloutConfig
from replication.data.template import encode
from replication.errors import Parser, UserError, run_command
from replication.loading import load_policy
from replication.outputs import write_whole
from replication.policy import small_model, small_tokenizer

QUESTIONS = [
    "What is 7 times 8?",
    "Name three fruits.",
    "Write a short poem about the sea.",
    "Is the number 91 prime? Answer yes or no.",
    "Explain in one sentence why the sky is blue.",
    "List the planets of the solar system.",
    "Translate 'good morning' into French.",
    "Give step by step instructions for making tea.",
    "What is the capital of Italy?",
    "Tell me a story about a fox and a crow.",
    "Which is larger, 0.9 or 0.11?",
    "Describe the water cycle to a child.",
]


Prompts = Sequence[Sequence[int]]
MODELS = "tiny", "SmolLM2-135M"
# rows at once: samples, rounds, and how many times `generate`'s rate is wanted
TINY = {1: (8, 5, 1), 4: (64, 5, 1), 16: (256, 3, 1), 64: (512, 1, 1), 256: (1024, 1, 3)}
SMOLLM2 = {1: (4, 1, 1), 8: (24, 1, 1), 32: (96, 2, 1.3)}


class Table:
    """Rows of name, ours, peer, ratio of the two and unit, printed and kept as they come.

    Args:
        out: file to write, for each row anew.
        machine: what to write of the machine.
        rows: of earlier runs; one of the same name and unit gives way to the new one.
    """

    def __init__(
        self, out: Path | None = None, machine: dict[str, str] | None = None, rows: Sequence[dict[str, Any]] = ()
    ) -> None:
        self.out, self.machine = out, machine
        self.rows: list[dict[str, Any]] = [*rows]

    def add(self, name: str, ours: float, peer: float, unit: str, wanted: str, note: str = "") -> None:
        """Add a row; `wanted` is what the ratio should be, such as `>= 1`, or nothing where there is no saying."""
        sign, bound = wanted.split() if wanted else ("", "0")
        ratio = ours / peer
        met = (ratio >= float(bound) if sign == ">=" else ratio <= float(bound)) if wanted else None
        row = {"name": name, "ours": ours, "peer": peer, "ratio": ratio, "unit": unit, "wanted": wanted, "met": met}
        row["note"] = note
        place = next(
            (i for i, old in enumerate(self.rows) if (old["name"], old["unit"]) == (name, unit)), len(self.rows)
        )
        self.rows[place : place + 1] = [row]
        if self.out:
            write_whole(self.out, json.dumps({"machine": self.machine, "rows": self.rows}, indent=1) + "\n")
        verdict = "MISSED " if met is False else ""
        print(f"{name:56s} {ours:11.5g} {peer:11.5g} {ratio:7.3f}  {wanted:7s} {verdict}{unit}", end="", flush=True)
        print(f"; {note}" if note else "", flush=True)


def compare_engines(
    table: Table, name: str, model: Any, prompts: Prompts, eos: int, cap: int, plan: dict[int, tuple[int, int, float]]
) -> None:
    """Samples finished a second with `rows` at once, and with erasure on the tokens sampled a second; `plan` says how
    many, how often, and the ratio wanted of generate.

    All are warmed up, then take turns; a rate is of the least time, which other work on the machine moves least. The
    threshold erases what lies in the upper quarter of the segments' U.
    """
    some = [prompts[i % len(prompts)] for i in range(64)]
    level = peers.engine(model, some, 64, 48, -1, erasing.JUDGED)[1].u.nanquantile(0.75)
    rule = replace(erasing.JUDGED, level=float(level))
    for rows, (count, rounds, wanted) in plan.items():
        some = [prompts[i % len(prompts)] for i in range(count)]
        spent: dict[str, list[float]] = {"engine": [], "erasing": [], "generate": [], "continuous batching": []}
        for number in range(rounds + 1):
            work = (some, rows, cap, eos) if number else (some[:rows], rows, 8, eos)
            time, plain = peers.engine(model, *work)
            erasing_time, erased = peers.engine(model, *work, rule)
            lengths = plain.length.tolist()
            turn = {
                "engine": time,
                "erasing": erasing_time,
                "generate": peers.generate(model, some[: len(lengths)], rows, lengths),
                "continuous batching": peers.continuous(model, some[: len(lengths)], rows, lengths),
            }
            if number:  # the first turn is the warm-up
                for key, value in turn.items():
                    spent[key].append(value)
        note = f"{sum(lengths) / count:.0f} tokens a sample, longest {max(lengths)}"
        ours, on = count / min(spent.pop("engine")), erased.row_steps / min(spent.pop("erasing"))
        for peer, times in spent.items():
            least = wanted if peer == "generate" else 1
            table.add(f"{name}, {rows} rows, {peer}", ours, count / min(times), "samples/s", f">= {least:g}", note)
        for peer, times in spent.items():
            share = f"{1 - int(erased.length.sum()) / erased.row_steps:.0%} of them erased"
            rate = sum(lengths) / min(times)
            table.add(f"{name}, {rows} rows, erasing, {peer}", on, rate, "tokens/s", ">= 1", share)


@dataclass(frozen=True)
class Case:
    """A model with as many rows at once, in two sets of groups of eight, as what erasing costs is measured on."""

    name: str
    model: Any
    prompts: Prompts
    rows: int
    rounds: int
    sizes: Sequence[int]  # segments of completions of growing length

    group = 8

    @property
    def sized(self) -> str:
        return f"{self.name}, {self.rows} rows"

    @property
    def some(self) -> Prompts:
        return [self.prompts[i % len(self.prompts)] for i in range(2 * self.rows // self.group)]

    @property
    def settings(self) -> RolloutConfig:
        return RolloutConfig(group_size=self.group, segments=6, segment_tokens=8, max_rows=self.rows)


def cost_when_off(table: Table, case: Case) -> None:
    off, without = erasing.overhead_when_off(case.model, case.some, case.settings, max(case.rounds, 4))
    table.add(f"{case.sized}, erasure off, without its code", off, without, "s", "<= 1.03")


def cost_of_a_token(table: Table, case: Case) -> None:
    rounds = 2 * case.rounds + 1
    again, once, _ = erasing.per_regenerated_token(case.model, case.some, case.settings, erasing.ALWAYS, rounds)
    table.add(f"{case.sized}, a regenerated token, a token", again, once, "us", "<= 1.05", "nobody waits")


def cost_where_groups_wait(table: Table, case: Case) -> None:
    many, lanes = [*case.some] * 4, replace(case.settings, lanes=case.rows // 2)
    work = case.model, many, lanes
    again, once, busy = erasing.per_regenerated_token(*work, erasing.ERASED, min(case.rounds, 5))
    waits = f"{len(many)} groups wait, {case.rows // 2} lanes"
    off, on = (erasing.microseconds_by_part(*work, rule) for rule in (peers.PLAIN, erasing.ERASED))
    profile = ", ".join(f"{part} {off[part]:.4g} -> {on[part]:.4g}" for part in off)
    table.add(f"{case.sized}, a regenerated token where groups wait, a token", again, once, "us", "<= 1.05", waits)
    each = sum(on.values()), sum(off.values())
    table.add(f"{case.sized}, a token where groups wait, erasure on, off", *each, "us", "", profile)
    table.add(f"{case.sized}, busy lanes", busy, 1.0, "share", ">= 0.9", waits)


def cost_in_memory(table: Table, case: Case) -> None:
    held = [erasing.kv_bytes(case.model, case.some, case.settings, rule) for rule in (erasing.ERASED, peers.PLAIN)]
    table.add(f"{case.sized}, keys and values, erasure on, off", *map(float, held), "bytes", "<= 1")


def growth(table: Table, case: Case) -> None:
    few = case.some[: case.rows // case.group]
    grown = erasing.growth_with_erasures(case.model, few, case.settings, (0, 1, 3), case.rounds)
    table.add(f"{case.sized}, time over tokens sampled", grown, 1.0, "exponent", "<= 1.05", "1 to 4 attempts a segment")
    time, memory = erasing.growth_with_length(case.model, few, case.settings, case.sizes)
    lengths = f"{case.sizes[0] * 8} to {case.sizes[-1] * 8} tokens"
    table.add(f"{case.sized}, time over length", time, 1.0, "exponent", "", f"{lengths}; attention reads the past")
    table.add(f"{case.sized}, keys and values over length", memory, 1.0, "exponent", "<= 1.05", lengths)


def starting_over(table: Table, case: Case) -> None:
    single, many = replace(case.settings, group_size=1), [case.some[i % len(case.some)] for i in range(2 * case.rows)]
    found = erasing.against_starting_over(case.model, many, single, 0.8, 30, min(case.rounds, 3))
    left = f"left after 30 tries: {found['left']:.1%}, {found['left again']:.1%}"
    for unit, ours, peer in (("s", "seconds", "seconds again"), ("tokens", "tokens", "tokens again")):
        table.add(f"{case.sized}, erasing segments, whole completions", found[ours], found[peer], unit, "<= 1", left)


def rounding(table: Table, case: Case) -> None:
    difference, share, erased = erasing.rounding(case.model, case.some, case.settings)
    alone = f"singly against {len(case.some)} at once"
    note = f"{alone}; other ids in {share:.1%}, with erasure, by groups, in {erased:.1%}"
    table.add(f"{case.sized}, rounding", difference, 1.0, "nats", "<= 1e-4", note)


COSTS = {
    "off": cost_when_off,
    "token": cost_of_a_token,
    "waiting": cost_where_groups_wait,
    "memory": cost_in_memory,
    "growth": growth,
    "starting over": starting_over,
    "rounding": rounding,
}


def earlier_rows(out: Path, machine: dict[str, str]) -> list[dict[str, Any]]:
    """The rows of a report of the same machine, of which `--only` measures some anew."""
    if not out.exists():
        return []
    try:
        report = json.loads(out.read_text())
        rows, of = report["rows"], report["machine"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"--out {out} is no report of this command: name another file") from None
    if of != machine:
        raise UserError(f"{out} is of {of}, and this is {machine}: run all parts, or name another file")
    return list(rows)


def main() -> None:
    parser = Parser(prog="python -m experiments.decoding.bench", description=__doc__)
    parser.add_argument("--smollm2", default="runs/smollm2", help="SmolLM2-135M as experiments/smollm2.py unpacks it")
    parser.add_argument("--out", default="reports/bench.json", help="file to write")
    parser.add_argument("--only", help="parts to run, a regular expression: 'tiny engines', 'SmolLM2-135M costs off'")
    options = parser.parse_args()
    out = Path(options.out)
    if not out.parent.is_dir() or out.is_dir():
        raise UserError(f"--out {out}: name a file in a folder that exists")
    machine = {"torch": torch.__version__, "python": platform.python_version(), "threads": "tiny 1, SmolLM2 2"}
    parts = [f"{model} {part}" for model in MODELS for part in ("engines", *(f"costs {name}" for name in COSTS))]
    try:
        wanted = {part for part in parts if re.search(options.only or "", part)}
    except re.error as error:
        raise UserError(f"--only {options.only} is no regular expression: {error}") from None
    if not wanted:
        raise UserError(f"--only {options.only} matches none of: {', '.join(parts)}")
    pretrained_wanted = any(part.startswith(MODELS[1]) for part in wanted)
    if options.only and pretrained_wanted and not Path(options.smollm2).is_dir():
        raise UserError(f"{options.smollm2} is not there: python experiments/smollm2.py {options.smollm2}")
    table = Table(out, machine, earlier_rows(out, machine) if options.only else ())
    print(f"{'':56s} {'ours':>11s} {'peer':>11s} {'ratio':>7s}  wanted")
    tokenizer = small_tokenizer()
    tiny = small_model(PolicyConfig(hidden_size=96, layers=3, heads=4, kv_heads=2, ffn_size=256), tokenizer, 0).eval()
    prompts = [tokenizer(f"{i}:" + "+-" * (i % 5) + ">").input_ids for i in range(10)]
    torch.set_num_threads(1)
    eos = tokenizer.eos_token_id
    if "tiny engines" in wanted:
        compare_engines(table, "tiny", tiny, prompts, eos, 252, TINY)
    small = Case("tiny", tiny, prompts, 256, 7, (4, 8, 16, 32))
    for name, cost in COSTS.items():
        if f"tiny costs {name}" in wanted:
            cost(table, small)
    if pretrained_wanted and Path(options.smollm2).is_dir():
        policy, words = load_policy(options.smollm2, None, "float32")
        torch.set_num_threads(2)
        policy.eval()
        asked = [encode(words, question) for question in QUESTIONS]
        if "SmolLM2-135M engines" in wanted:
            compare_engines(table, "SmolLM2-135M", policy, asked, words.eos_token_id, 256, SMOLLM2)
        pretrained = Case("SmolLM2-135M", policy, asked, 32, 1, (2, 4, 8))
        for name, cost in COSTS.items():
            if f"SmolLM2-135M costs {name}" in wanted:
                cost(table, pretrained)
    elif pretrained_wanted:
        print(f"{options.smollm2} is not there: SmolLM2 was not run (experiments/smollm2.py makes it)")
    print(f"-> {out}")


if __name__ == "__main__":
    run_command(main)
