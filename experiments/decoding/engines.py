"""The embedded engine, vLLM, and transformers' own decoding, side by side in one run; and what erasing costs on vLLM.

    .venv-vllm/bin/python -m experiments.decoding.engines [--smollm2 runs/smollm2] -> reports/engines.json

What it should show: on a CPU the embedded engine is the fastest; on vLLM a segment's boundary costs little, and what a
resubmitted segment's prompt has is served from the cache.

All times are seconds of the processor, one thread, the least of rounds that take turns: other work on the machine then
moves them little.
"""

from __future__ import annotations

import json
import platform
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from experiments.decoding import peers
from replication.config import ErasureConfig, PolicyConfig, RolloutConfig
from replication.errors import Parser, run_command
from replication.loading import load_policy
from replication.policy import small_model, small_tokenizer
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.rollout.protocol import Engine
from replication.rollout.vllm.engine import VLLMEngine, VLLMSession

NEVER = [-1]  # no token ends a completion, so that all have one length
PLAIN = ErasureConfig(fraction=0.0)
QUARTER = ErasureConfig(baseline="fixed", level=1e-6, growth=0.0, history=0.0, cap=1, fraction=0.25)  # of each group
PROMPT, ROUNDS = 40, 3


def prompts_of(count: int, words: int) -> list[list[int]]:
    chance = random.Random(0)
    return [[chance.randrange(5, words) for _ in range(PROMPT)] for _ in range(count)]


def sampled(engine: Engine, prompts: Sequence[Sequence[int]], settings: RolloutConfig, erasure: ErasureConfig) -> int:
    """Tokens of a rollout."""
    keys = torch.arange(len(prompts) * settings.group_size)
    return roll_out(engine, prompts, keys, settings, erasure, NEVER, 0).row_steps


def rates(sides: dict[str, Callable[[], int]], rounds: int = ROUNDS) -> dict[str, float]:
    """Tokens in a second of the processor, by side."""
    best = dict.fromkeys(sides, 0.0)
    for number in range(rounds + 1):
        for name, work in sides.items():
            began = time.process_time()
            count = work()
            if number:  # the first time warms up
                best[name] = max(best[name], count / (time.process_time() - began))
    return {name: round(rate, 1) for name, rate in best.items()}


def served(session_steps: list[tuple[int, int]]) -> float:
    """Share of resubmitted prompts' tokens that came from the cache."""
    return sum(cached for _, cached in session_steps) / sum(size for size, _ in session_steps)


def measured(model: Any, words: int, counts: Sequence[int], longest: int) -> dict[str, Any]:
    """Rows by rows at once; the costs with the most rows."""
    most, segment = max(counts), longest // 8
    kinds = {
        "torch": TorchEngine(model),
        "vLLM": VLLMEngine(model, PROMPT + longest, most),
    }
    found: dict[str, Any] = {"tokens in a second": {}}

    def of(engine: Engine, rows: int, settings: RolloutConfig, erasure: ErasureConfig = PLAIN) -> Callable[[], int]:
        return lambda: sampled(engine, prompts_of(rows // settings.group_size, words), settings, erasure)

    def peer(work: Callable[..., float], rows: int) -> Callable[[], int]:
        def run() -> int:
            work(model, prompts_of(rows, words), rows, [longest] * rows)
            return rows * longest

        return run

    for rows in counts:
        settings = RolloutConfig(group_size=1, segments=8, segment_tokens=segment, max_rows=rows)
        sides = {name: of(engine, rows, settings) for name, engine in kinds.items()}
        sides["generate"] = peer(peers.generate, rows)
        sides["continuous batching"] = peer(peers.continuous, rows)
        found["tokens in a second"][str(rows)] = rates(sides)
        print(rows, found["tokens in a second"][str(rows)], flush=True)
    vllm = kinds["vLLM"]
    assert isinstance(vllm, VLLMEngine)
    whole = RolloutConfig(group_size=1, segments=1, segment_tokens=longest, max_rows=most)
    parts = RolloutConfig(group_size=1, segments=8, segment_tokens=segment, max_rows=most)
    groups = RolloutConfig(group_size=most // 8, segments=8, segment_tokens=segment, max_rows=most)
    steps: list[tuple[int, int]] = []
    piece = VLLMSession._piece

    def noted(session: VLLMSession, finished: Sequence[Any]) -> Any:
        for request in finished:
            if len(request.prompt_token_ids) > PROMPT:
                steps.append((len(request.prompt_token_ids), request.num_cached_tokens))
        return piece(session, finished)

    def seedless() -> int:
        vllm.reproducible = False
        try:
            return of(vllm, most, parts)()
        finally:
            vllm.reproducible = True

    with mock.patch.object(VLLMSession, "_piece", noted):
        costs = rates(
            {
                "one segment": of(vllm, most, whole),
                "eight segments": of(vllm, most, parts),
                "eight segments, no seeds": seedless,
                "eight segments, a quarter of the rows erased once": of(vllm, most, groups, QUARTER),
            }
        )
    found["vLLM by segments"] = costs
    found["a boundary's cost"] = round(costs["one segment"] / costs["eight segments"] - 1, 3)
    found["a seed's cost"] = round(costs["eight segments, no seeds"] / costs["eight segments"] - 1, 3)
    found["rate where a quarter of the rows erases, over none"] = round(
        costs["eight segments, a quarter of the rows erased once"] / costs["eight segments"], 3
    )
    found["resubmitted tokens from the cache"] = round(served(steps), 3)
    print({key: value for key, value in found.items() if key != "tokens in a second"}, flush=True)
    return found


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--smollm2", type=Path, default=None, help="folder of experiments/smollm2.py")
    parser.add_argument("--out", type=Path, default=Path("reports/engines.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = small_tokenizer()
    size = PolicyConfig(hidden_size=96, layers=3, heads=3, kv_heads=1, ffn_size=256)
    found = {"machine": f"{platform.machine()}, one thread", "torch": torch.__version__}
    models: dict[str, Any] = {
        "tiny": measured(small_model(size, tokenizer, 0).eval(), len(tokenizer), (1, 8, 32, 64), 256)
    }
    if args.smollm2:
        model, words = load_policy(str(args.smollm2))
        models["SmolLM2-135M"] = measured(model, len(words), (1, 8, 32), 128)
    args.out.write_text(json.dumps(found | {"models": models}, indent=2) + "\n")


if __name__ == "__main__":
    run_command(main)
