"""The vLLM engine at the size of Qwen3-4B, where vLLM is installed: its start, new weights, speed, sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec

import torch

from experiments.decoding.erasing import NEVER, PLAIN
from experiments.decoding.peers import settle
from experiments.gpu.device import GIB, cudnn, made, on_cuda
from experiments.gpu.groups import Setting
from experiments.gpu.rows import Rows, Skipped
from replication.config import ErasureConfig, RolloutConfig
from replication.planning import vllm as assumed
from replication.rollout.agreement import check_engine
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.rollout.protocol import Engine
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
    if not on_cuda():
        return 0.0
    left, whole = torch.cuda.mem_get_info()
    return (whole - left) / GIB


def beside(rows: Rows, setting: Setting) -> None:
    """vLLM and the embedded engine on the same rollouts, and what keeps vLLM in step with the trainer."""
    if getattr(find_spec("vllm"), "origin", None) is None:
        raise Skipped("vLLM is not installed")
    model = made("4B", setting, torch.float32 if setting.tiny else torch.bfloat16)
    group, segments, tokens, length = (4, 2, 4, 8) if setting.tiny else (16, 4, 64, 256)
    most = 8 if setting.tiny else 256
    engine = VLLMEngine(model, length + segments * tokens, most, SHARE)
    rows.add("start", taken(engine.sync), "s", note="from nothing: compiled, graphs captured, weights pushed")
    pushed = taken(engine.sync)
    size = sum(weight.nbytes for weight in model.parameters()) / 1e9
    note = f"{size / pushed:.1f} GB/s; the plan assumes {assumed.PUSHING / 1e9:.0f}"
    rows.add("new weights", pushed, "s", note=note)
    apart = check_engine(engine, model, list(range(5, 5 + length)), [1], 0)
    rows.add(
        "log-probabilities against a forward pass",
        apart,
        "nats",
        "<= 0.1",
        f"mean, {model.dtype}".replace("torch.", ""),
    )

    def rate(engine: Engine, count: int, rule: ErasureConfig) -> tuple[float, int]:
        settings = RolloutConfig(group_size=group, segments=segments, segment_tokens=tokens, max_rows=count)
        prompts = [[5 + i] * length for i in range(count // group)]
        if engine is vllm:
            vllm.llm.reset_prefix_cache()
        began = time.perf_counter()
        done = roll_out(engine, prompts, torch.arange(count), settings, rule, NEVER, 0)
        settle()
        return done.row_steps / (time.perf_counter() - began), int(done.erasures.sum())

    vllm, embedded = engine, TorchEngine(model)
    rate(vllm, group, PLAIN)
    for count in (most // 8, most) if not setting.tiny else (most,):
        for name, rule in (("plain", PLAIN), ("erasing", ErasureConfig(window=32))):
            theirs, erased = rate(vllm, count, rule)
            rows.add(
                f"{count} rows, {name}: vLLM",
                theirs,
                "tokens/s",
                note=f"{segments} segments of {tokens}; {erased} erasures",
            )
            if count == most // 8 or setting.tiny:
                with cudnn(False):
                    ours, _ = rate(embedded, count, rule)
                rows.add(f"{count} rows, {name}: the embedded engine", ours, "tokens/s")
    vllm.reproducible = False
    rate(vllm, group, PLAIN)
    rows.add(f"{most} rows, plain: vLLM without seeds", rate(vllm, most, PLAIN)[0], "tokens/s")
    if on_cuda():
        awake = in_use()
        slept = taken(vllm.rest)
        asleep = in_use()
        rows.add(
            "asleep: given back",
            awake - asleep,
            "GiB",
            note=f"in {slept:.2f} s; {asleep:.1f} GiB in use, the policy's among them",
        )
        rows.add("awake again, with new weights", taken(vllm.sync), "s")
        rows.add(
            "after its sleep: against a forward pass",
            check_engine(vllm, model, list(range(5, 5 + length)), [1], 0),
            "nats",
            "<= 0.1",
        )
    vllm.close()
