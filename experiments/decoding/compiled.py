"""Does `torch.compile` pay for decoding on this machine? A forward pass of the tiny model, eager and compiled.

    python -m experiments.decoding.compiled [--rows 16]

What it should show: microseconds a pass, and after how many passes the compiling is earned back. On 2 cores: see the
README; the engine does not compile.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from replication.config import PolicyConfig
from replication.errors import Parser, run_command
from replication.policy import small_model, small_tokenizer
from replication.rollout.builtin.cache import RowCache
from replication.rollout.masks import text_config


@torch.inference_mode()
def seconds_a_pass(model: Any, config: Any, rows: int, passes: int) -> float:
    """Mean over passes that feed a token to each of the rows, whose pasts grow from nothing."""
    cache = RowCache(config, rows, passes)
    positions = torch.arange(passes).expand(rows, -1)
    started = time.perf_counter()
    for i, mask in enumerate(cache.passes(positions)):
        ids, at = torch.full((rows, 1), 7), positions[:, i : i + 1]
        model(input_ids=ids, position_ids=at, attention_mask=mask, past_key_values=cache, use_cache=True)
    return (time.perf_counter() - started) / passes


def main() -> None:
    parser = Parser(prog="python -m experiments.decoding.compiled", description=__doc__)
    parser.add_argument("--rows", type=int, default=16, help="completions decoded in one pass")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = PolicyConfig(hidden_size=96, layers=3, heads=4, kv_heads=2, ffn_size=256)
    model = small_model(size, small_tokenizer(), 0).eval()
    config = text_config(model)
    eager = min(seconds_a_pass(model, config, options.rows, 100) for _ in range(5))
    compiled = torch.compile(model, dynamic=True)
    started = time.perf_counter()
    seconds_a_pass(compiled, config, options.rows, 100)
    compiling = time.perf_counter() - started
    after = min(seconds_a_pass(compiled, config, options.rows, 100) for _ in range(5))
    print(f"eager {1e3 * eager:.2f} ms a pass, compiled {1e3 * after:.2f} ms, the first 100 passes {compiling:.0f} s")
    if after < eager:
        print(f"earned back after {compiling / (eager - after):,.0f} passes")


if __name__ == "__main__":
    run_command(main)
