"""The vLLM engine at the size of Qwen3-4B, where vLLM is installed: its start, new weights, speed, sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec

import torch

from experiments.decoding.erasing import NEVER, PLAIN
from experiments.gpu.device import GIB, made, on_cuda
from experiments.gpu.groups import Setting
from experiments.gpu.rows import Rows, Skipped
from experiments.training.clock import settle
from replication.config import ErasureConfig, RolloutConfig
from replication.planning import vllm as assumed
from replication.rollout.agreement import check_engine
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.rollout.protocol import Engine
from replication.rollout.trace import Rollout
from replication.rollout.vllm.engine import VLLMEngine

SHARE = 0.5  # of the GPU, as the paper's settings have it


def taken(work: Callable[[], object]) -> float:
    """Seconds of a call, waited for."""
    settle()
    began = time.perf_counter()
    work()
    settle()
    return time.perf_counter() - began


def in_use() -> float:
    """GiB of the GPU that somebody holds."""
    left, whole = torch.cuda.mem_get_info()
    return (whole - left) / GIB


def beside(rows: Rows, setting: Setting) -> None:
    """vLLM and the embedded engine on the same rollouts, and what keeps vLLM in step with the trainer."""
    if getattr(find_spec("vllm"), "origin", None) is None:
        raise Skipped("vLLM is not installed")
    model = made("4B", setting, torch.float32 if setting.tiny else torch.bfloat16)
    group, segments, tokens, length = (4, 2, 4, 8) if setting.tiny else (16, 4, 64, 256)
    few, many = (8, 8) if setting.tiny else (32, 256)
    vllm, embedded = VLLMEngine(model, length + segments * tokens, many, SHARE), TorchEngine(model)

    def rate(engine: Engine, count: int, rule: ErasureConfig) -> float:
        """Tokens a second of a rollout of so many rows; of earlier ones nothing is in vLLM's cache."""
        settings = RolloutConfig(group_size=group, segments=segments, segment_tokens=tokens, max_rows=count)
        prompts = [[5 + i] * length for i in range(count // group)]
        vllm.llm.reset_prefix_cache()
        done = list[Rollout]()
        keys = torch.arange(count)
        spent = taken(lambda: done.append(roll_out(engine, prompts, keys, settings, rule, NEVER, 0)))
        return done[0].row_steps / spent

    def apart() -> float:
        return check_engine(vllm, model, list(range(5, 5 + length)), [1], 0)

    rows.add("start", taken(vllm.sync), "s", note="from nothing to pushed weights")
    pushed = taken(vllm.sync)
    size = sum(weight.nbytes for weight in model.parameters()) / 1e9
    rows.add("new weights", pushed, "s", note=f"{size / pushed:.1f} GB/s; the plan has {assumed.PUSHING / 1e9:.0f}")
    rows.add("log-probabilities against a forward pass", apart(), "nats", "<= 0.1", f"mean, {model.dtype}")
    rate(vllm, group, PLAIN)
    for name, rule in (("plain", PLAIN), ("erasing", ErasureConfig(window=32))):
        for count in dict.fromkeys((few, many)):
            rows.add(f"{count} rows, {name}: vLLM", rate(vllm, count, rule), "tokens/s")
        rows.add(f"{few} rows, {name}: the embedded engine", rate(embedded, few, rule), "tokens/s")
    vllm.reproducible = False
    rate(vllm, group, PLAIN)
    rows.add(f"{many} rows, plain: vLLM without seeds", rate(vllm, many, PLAIN), "tokens/s")
    if on_cuda():
        awake = in_use()
        slept = taken(vllm.rest)
        note = f"in {slept:.2f} s; {in_use():.1f} GiB stay in use, the policy's among them"
        rows.add("asleep: given back", awake - in_use(), "GiB", note=note)
        rows.add("awake again, with new weights", taken(vllm.sync), "s")
        rows.add("after its sleep: log-probabilities against a forward pass", apart(), "nats", "<= 0.1")
    vllm.close()
