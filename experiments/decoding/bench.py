"""`make bench`: the rollout engine beside transformers' own, and what erasing costs; all in one run.

    python -m experiments.decoding.bench [--smollm2 runs/smollm2] -> reports/bench.json

What it should show: at equal work the engine is never slower than `generate` or the continuous batching, the code for
erasing costs nothing while it is off, a regenerated token costs what a token costs, and it takes no memory.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from experiments.decoding import erasing, peers
from replication.config import PolicyConfig, RolloutConfig
from replication.data.template import encode
from replication.errors import Parser, UserError, run_command
from replication.outputs import write_whole
from replication.policy import load_policy, small_model, small_tokenizer

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
# rows at once: samples, rounds, and how many times `generate`'s rate is wanted
TINY = {1: (8, 5, 1), 4: (64, 5, 1), 16: (256, 3, 1), 64: (512, 1, 1), 256: (1024, 1, 3)}
SMOLLM2 = {1: (4, 1, 1), 8: (24, 1, 1), 32: (96, 2, 1.3)}


class Table:
    """Rows of name, ours, peer, ratio of the two and unit, printed and kept as they come."""

    def __init__(self, out: Path | None = None, machine: dict[str, str] | None = None) -> None:
        self.out, self.machine = out, machine
        self.rows: list[dict[str, Any]] = []

    def add(self, name: str, ours: float, peer: float, unit: str, wanted: str, note: str = "") -> None:
        """Add a row; `wanted` is what the ratio should be, such as `>= 1`, or nothing where there is no saying."""
        sign, bound = wanted.split() if wanted else ("", "0")
        ratio = ours / peer
        met = (ratio >= float(bound) if sign == ">=" else ratio <= float(bound)) if wanted else None
        row = {"name": name, "ours": ours, "peer": peer, "ratio": ratio, "unit": unit, "wanted": wanted, "met": met}
        self.rows.append(row | {"note": note})
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


def cost_of_erasing(
    table: Table, name: str, model: Any, prompts: Prompts, rows: int, rounds: int, sizes: Sequence[int]
) -> None:
    """Erasure off and on, the time of a regenerated token, bytes, growth, starting over, and rounding."""
    group = 8
    some = [prompts[i % len(prompts)] for i in range(2 * rows // group)]
    settings = RolloutConfig(group_size=group, segments=6, segment_tokens=8, max_rows=rows)
    sized = f"{name}, {rows} rows"
    off, without = erasing.overhead_when_off(model, some, settings, rounds)
    table.add(f"{sized}, erasure off, without its code", off, without, "s", "<= 1.03")
    again, once, _ = erasing.per_regenerated_token(model, some, settings, erasing.ALWAYS, 2 * rounds + 1)
    table.add(f"{sized}, a regenerated token, a token", again, once, "us", "<= 1.05", "nobody waits")
    lanes = replace(settings, lanes=rows // 2)
    again, once, busy = erasing.per_regenerated_token(model, some * 4, lanes, erasing.ERASED, min(rounds, 5))
    waits = f"{len(some) * 4} groups wait, {rows // 2} lanes"
    parts = [erasing.microseconds_by_part(model, some * 4, lanes, e) for e in (peers.PLAIN, erasing.ERASED)]
    profile = ", ".join(f"{part} {parts[0][part]:.3g} -> {parts[1][part]:.3g}" for part in parts[0])
    table.add(
        f"{sized}, a regenerated token, a token", again, once, "us", "<= 1.05", f"{waits}; of all tokens: {profile}"
    )
    table.add(f"{sized}, busy lanes", busy, 1.0, "share", ">= 0.9", waits)
    held = [erasing.kv_bytes(model, some, settings, erasure) for erasure in (erasing.ERASED, peers.PLAIN)]
    table.add(f"{sized}, keys and values, erasure on, off", *map(float, held), "bytes", "<= 1")
    few = some[: rows // group]
    grown = erasing.growth_with_erasures(model, few, settings, (0, 1, 3), rounds)
    table.add(f"{sized}, time over tokens sampled", grown, 1.0, "exponent", "<= 1.05", "1 to 4 attempts a segment")
    time, memory = erasing.growth_with_length(model, few, settings, sizes)
    lengths = f"{sizes[0] * 8} to {sizes[-1] * 8} tokens"
    table.add(f"{sized}, time over length", time, 1.0, "exponent", "", f"{lengths}; attention reads the past")
    table.add(f"{sized}, keys and values over length", memory, 1.0, "exponent", "<= 1.05", lengths)
    single, many = replace(settings, group_size=1), [some[i % len(some)] for i in range(2 * rows)]
    found = erasing.against_starting_over(model, many, single, 0.8, 30, min(rounds, 3))
    left = f"left after 30 tries: {found['left']:.1%}, {found['left again']:.1%}"
    for unit, ours, peer in (("s", "seconds", "seconds again"), ("tokens", "tokens", "tokens again")):
        table.add(f"{sized}, erasing segments, whole completions", found[ours], found[peer], unit, "<= 1", left)
    difference, share, erased = erasing.rounding(model, some, settings)
    note = f"singly against {len(some)} at once; other ids in {share:.1%}, with erasure, by groups, in {erased:.1%}"
    table.add(f"{sized}, rounding", difference, 1.0, "nats", "<= 1e-4", note)


def main() -> None:
    parser = Parser(prog="python -m experiments.decoding.bench", description=__doc__)
    parser.add_argument("--smollm2", default="runs/smollm2", help="SmolLM2-135M as experiments/smollm2.py unpacks it")
    parser.add_argument("--out", default="reports/bench.json", help="file to write")
    options = parser.parse_args()
    out = Path(options.out)
    if not out.parent.is_dir() or out.is_dir():
        raise UserError(f"--out {out}: name a file in a folder that exists")
    machine = {"torch": torch.__version__, "python": platform.python_version(), "threads": "tiny 1, SmolLM2 2"}
    table = Table(out, machine)
    print(f"{'':56s} {'ours':>11s} {'peer':>11s} {'ratio':>7s}  wanted")
    tokenizer = small_tokenizer()
    tiny = small_model(PolicyConfig(hidden_size=96, layers=3, heads=4, kv_heads=2, ffn_size=256), tokenizer, 0).eval()
    prompts = [tokenizer(f"{i}:" + "+-" * (i % 5) + ">").input_ids for i in range(10)]
    torch.set_num_threads(1)
    eos = tokenizer.eos_token_id
    compare_engines(table, "tiny", tiny, prompts, eos, 252, TINY)
    cost_of_erasing(table, "tiny", tiny, prompts, 256, 7, (4, 8, 16, 32))
    if Path(options.smollm2).is_dir():
        policy, words = load_policy(options.smollm2, None, "float32")
        torch.set_num_threads(2)
        policy.eval()
        asked = [encode(words, question) for question in QUESTIONS]
        compare_engines(table, "SmolLM2-135M", policy, asked, words.eos_token_id, 256, SMOLLM2)
        cost_of_erasing(table, "SmolLM2-135M", policy, asked, 32, 1, (2, 4, 8))
    else:
        print(f"{options.smollm2} is not there: SmolLM2 was not run (experiments/smollm2.py makes it)")
    print(f"-> {out}")


if __name__ == "__main__":
    run_command(main)
