"""The embedded engine, vLLM, and transformers' own decoding, side by side in one run; and what erasing costs on vLLM.

    .venv-vllm/bin/python -m experiments.decoding.engines [--smollm2 runs/smollm2] [--only 'SmolLM2.*boundaries']
        -> reports/engines.json

What it should show: on a CPU the embedded engine is the fastest; on vLLM a segment's boundary costs little, a token
that is generated again costs what a token costs, and what a resubmitted segment's prompt has is served from the cache.

All times are seconds of the processor, one thread, the least of rounds that take turns; the most stands beside it, and
tells how far other work on the machine moved them. A prompt has 40 tokens. A run of a part on the same day, machine and
settings adds its rounds to those before.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from experiments.decoding import peers
from experiments.decoding.engines_table import RATES, SLOWEST, described, store
from replication.config import ErasureConfig, PolicyConfig, RolloutConfig
from replication.errors import Parser, UserError, run_command
from replication.loading import load_policy
from replication.policy import small_model, small_tokenizer
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.rollout.protocol import Engine
from replication.rollout.trace import Rollout
from replication.rollout.vllm import engine as vllm_engine
from replication.rollout.vllm.engine import VLLMEngine, VLLMSession

NEVER = [-1]  # no token ends a completion, so that all have one length
PLAIN = ErasureConfig(fraction=0.0)
TWICE = ErasureConfig(baseline="fixed", level=1e-6, growth=0.0, history=0.0, cap=1)
QUARTER = ErasureConfig(**{**vars(TWICE), "fraction": 0.25})  # of each group
GROUP = ErasureConfig(baseline="group", history=0.0)  # a history would have the baseline `fixed` wait, too
ROOMS = (1.0, 0.8, 0.4, 0.2)  # of what rows have written when they are half through
PROMPT, SEGMENTS, COMPANY = 40, 8, 8  # tokens of a prompt; segments where costs are measured; completions of a group

Work = Callable[[], int]  # returns the tokens that it made


@dataclass(frozen=True)
class Case:
    """A model, and how much of it is measured."""

    name: str
    model: Any
    tokenizer: Any
    counts: Sequence[int]  # of rows at once
    longest: int  # tokens of a completion, beside the peers
    rows: int  # at once, where costs are measured
    rounds: int
    segment: int = 32  # tokens

    @property
    def words(self) -> int:
        """Of its vocabulary."""
        return len(self.tokenizer)

    def parts(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """What is measured of it, by name."""
        return {f"{rows} rows": partial(side_by_side, self, rows) for rows in self.counts} | {
            "boundaries": partial(boundaries, self),
            "seeds": partial(seeds, self),
            "erasing": partial(erasing, self),
            "waiting": partial(waiting, self),
            "little room": partial(little_room, self),
        }


def prompts_of(count: int, words: int) -> list[list[int]]:
    chance = random.Random(0)
    return [[chance.randrange(5, words) for _ in range(PROMPT)] for _ in range(count)]


def sampled(engine: Engine, case: Case, settings: RolloutConfig, erasure: ErasureConfig, rows: int) -> Rollout:
    """A rollout of so many completions; of earlier ones nothing is in vLLM's cache, as after an update."""
    if isinstance(engine, VLLMEngine) and engine.llm is not None:
        engine.llm.reset_prefix_cache()
    prompts = prompts_of(rows // settings.group_size, case.words)
    return roll_out(engine, prompts, torch.arange(rows), settings, erasure, NEVER, 0)


def settings_of(rows: int, tokens: int, segments: int, group: int) -> RolloutConfig:
    """Completions of so many tokens in so many segments."""
    return RolloutConfig(group_size=group, segments=segments, segment_tokens=tokens // segments, max_rows=rows)


def rates(sides: Mapping[str, Work], rounds: int, warm: Sequence[Work] = ()) -> dict[str, dict[str, float]]:
    """Tokens in a second of the processor, by side, of the best round and of the slowest; `warm` is done before, and
    not counted."""
    for work in warm:
        work()
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            began = time.process_time()
            count = work()
            found[name].append(count / (time.process_time() - began))
    return {
        RATES: {name: round(max(rounds), 1) for name, rounds in found.items()},
        SLOWEST: {name: round(min(rounds), 1) for name, rounds in found.items()},
    }


def side_by_side(case: Case, rows: int) -> dict[str, Any]:
    """The engines and their peers."""
    kinds = {"torch": TorchEngine(case.model), "vLLM": VLLMEngine(case.model, PROMPT + case.longest, rows)}

    def ours(engine: Engine, tokens: int) -> int:
        segments = max(tokens // case.segment, 1)
        return sampled(engine, case, settings_of(rows, tokens, segments, 1), PLAIN, rows).row_steps

    def theirs(work: Callable[..., float], tokens: int) -> int:
        work(case.model, prompts_of(rows, case.words), rows, [tokens] * rows)
        return rows * tokens

    def sides(tokens: int) -> dict[str, Work]:
        return {name: partial(ours, engine, tokens) for name, engine in kinds.items()} | {
            "generate": partial(theirs, peers.generate, tokens),
            "continuous batching": partial(theirs, peers.continuous, tokens),
        }

    found = rates(sides(case.longest), case.rounds, list(sides(4).values()))
    return {"rows": rows, "tokens": case.longest, **found}


def on_vllm(case: Case, sides: Mapping[str, tuple[int, ErasureConfig, bool]]) -> dict[str, Any]:
    """Rates on vLLM; a side has its number of segments, its rule, and whether it has seeds."""
    rows, tokens = case.rows, SEGMENTS * case.segment
    engine = VLLMEngine(case.model, PROMPT + tokens, rows)
    group = min(COMPANY, rows)

    def run(segments: int, erasure: ErasureConfig, seeded: bool, tokens: int = tokens) -> int:
        engine.reproducible = seeded
        return sampled(engine, case, settings_of(rows, tokens, segments, group), erasure, rows).row_steps

    warm = [partial(run, *side, tokens=side[0]) for side in sides.values()]
    found = rates({name: partial(run, *side) for name, side in sides.items()}, case.rounds, warm)
    return {"rows": rows, "tokens": tokens, **found}


@contextmanager
def resubmitted(case: Case) -> Iterator[list[tuple[int, int]]]:
    """Tokens of each prompt of a later segment in the block, and those of them that came from vLLM's cache."""
    steps: list[tuple[int, int]] = []
    piece = VLLMSession._piece

    def noted(session: VLLMSession, finished: Sequence[Any]) -> Any:
        sizes = [(len(request.prompt_token_ids), request.num_cached_tokens) for request, *_ in finished]
        steps.extend((size, cached) for size, cached in sizes if size >= PROMPT + case.segment)
        return piece(session, finished)

    with mock.patch.object(VLLMSession, "_piece", noted):
        yield steps


def share_of(steps: Sequence[tuple[int, int]]) -> float:
    return round(sum(cached for _, cached in steps) / sum(size for size, _ in steps), 3)


def boundaries(case: Case) -> dict[str, Any]:
    """Eight segments against one of the same length."""
    with resubmitted(case) as steps:
        found = on_vllm(case, {"one segment": (1, PLAIN, True), "eight segments": (SEGMENTS, PLAIN, True)})
    return found | {"resubmitted tokens from the cache": share_of(steps)}


def little_room(case: Case) -> dict[str, Any]:
    """A cache that holds a share of what the rows have written when they are half through; where none waits, and where
    rows wait for their group."""
    rows, tokens, config = case.rows, SEGMENTS * case.segment, case.model.config
    each = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4  # bytes of a token
    shares: dict[str, float] = {}
    for room in ROOMS:
        memory = int(room * rows * (PROMPT + tokens / 2) * each)
        for name, rule in (("plain", PLAIN), ("group", GROUP)):
            with mock.patch.object(vllm_engine, "MEMORY", memory), resubmitted(case) as steps:
                engine = VLLMEngine(case.model, PROMPT + tokens, rows)
                sampled(engine, case, settings_of(rows, tokens, SEGMENTS, min(COMPANY, rows)), rule, rows)
                engine.close()
            shares[f"{name}, room for {room}"] = share_of(steps)
    return {"rows": rows, "tokens": tokens, RATES: {}, SLOWEST: {}, "resubmitted tokens from the cache": shares}


def seeds(case: Case) -> dict[str, Any]:
    """A seed for each segment against none."""
    return on_vllm(case, {"seeds": (SEGMENTS, PLAIN, True), "no seeds": (SEGMENTS, PLAIN, False)})


def erasing(case: Case) -> dict[str, Any]:
    """Every segment written twice against once; and a quarter of the rows, which then end later, and alone."""
    rules = {"plain": PLAIN, "all rows twice": TWICE, "a quarter of the rows twice": QUARTER}
    return on_vllm(case, {name: (SEGMENTS, rule, True) for name, rule in rules.items()})


def waiting(case: Case) -> dict[str, Any]:
    """Rows that wait for their group against a fixed level that erases as much; twice as many rows as fit at once."""
    rows, tokens = case.rows, case.longest
    kinds = {"torch": TorchEngine(case.model), "vLLM": VLLMEngine(case.model, PROMPT + tokens, rows)}
    done: dict[str, Rollout] = {}

    def run(engine: str, rule: str, tokens: int = tokens) -> int:
        settings = settings_of(rows, tokens, SEGMENTS, COMPANY)
        side = f"{engine}, {rule}"
        done[side] = sampled(kinds[engine], case, settings, rules[rule], 2 * rows)
        return done[side].row_steps

    rules = {"group": GROUP}
    run("torch", "group")
    level = level_for(done["torch, group"].first_u, erased_share(done["torch, group"]), GROUP)
    rules["fixed"] = ErasureConfig(**{**vars(GROUP), "baseline": "fixed", "level": level})
    sides = {f"{engine}, {rule}": partial(run, engine, rule) for rule in rules for engine in kinds}
    found = rates(sides, case.rounds, [partial(run, "vLLM", "fixed", SEGMENTS)])
    return {
        "rows": rows,
        "completions": 2 * rows,
        "tokens": tokens,
        "level": round(level, 3),
        **found,
        "share of tokens erased": {side: round(erased_share(one), 3) for side, one in done.items()},
        "share of rows busy in a pass": {
            side: round(one.row_steps / (one.steps * rows), 3) for side, one in done.items()
        },
    }


def erased_share(done: Rollout) -> float:
    """Share of the tokens sampled that were erased."""
    return int(done.erased_tokens.sum()) / done.row_steps


def level_for(u: Tensor, share: float, rule: ErasureConfig) -> float:
    """The fixed level under which that share of all attempts is erased, where each one's U is as one of `u`, in nats.

    An attempt after e erasures is erased where U > level exp(growth e); the cap ends it.
    """
    known = u[~u.isnan()].double()

    def erased(level: float) -> float:
        chances = [(known > level * math.exp(rule.growth * e)).double().mean() for e in range(rule.cap)]
        each = float(torch.stack(chances).cumprod(0).sum())  # erased attempts at a segment
        return each / (1 + each)

    low, high = 1e-9, float(known.max()) + 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if erased(middle) > share else (low, middle)
    return (low + high) / 2


def cases(smollm2: Path | None) -> list[Case]:
    tokenizer = small_tokenizer()
    size = PolicyConfig(hidden_size=96, layers=3, heads=3, kv_heads=1, ffn_size=256)
    found = [Case("tiny", small_model(size, tokenizer, 0).eval(), tokenizer, (1, 8, 32, 64), 256, 64, 3)]
    if smollm2:
        model, tokenizer = load_policy(str(smollm2))
        found.append(Case("SmolLM2-135M", model, tokenizer, (1, 8, 32, 64), 64, 16, 2))
    return found


def main() -> None:
    parser = Parser(prog="python -m experiments.decoding.engines", description=__doc__)
    parser.add_argument("--smollm2", type=Path, default=None, help="folder of experiments/smollm2.py")
    parser.add_argument("--only", default="", help="parts to run, a regular expression: 'tiny boundaries'")
    parser.add_argument("--rounds", type=int, help="of each part, in place of 3 and 2; more may follow in another run")
    parser.add_argument("--out", type=Path, default=Path("reports/engines.json"), help="file whose parts are replaced")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = [replace(case, rounds=args.rounds or case.rounds) for case in cases(args.smollm2)]
    wanted = [(case, name) for case in found for name in case.parts() if re.search(args.only, f"{case.name} {name}")]
    if not wanted:
        names = ", ".join(f"{case.name} {name}" for case in found for name in case.parts())
        raise UserError(f"--only {args.only} matches none of: {names}")
    for case, name in wanted:
        part = {**described(case.model), "rounds": case.rounds, **case.parts()[name]()}
        print(case.name, name, store(args.out, case.name, name, part), flush=True)


if __name__ == "__main__":
    run_command(main)
