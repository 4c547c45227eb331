"""What the groups share: the device and its clock, models with random weights, and what a decoding pass must read."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, Qwen3Config

from experiments.gpu.groups import Setting
from experiments.gpu.machine import BANDWIDTH, FLOPS, ROOT
from experiments.gpu.rows import Rows
from experiments.training.clock import settle
from experiments.training.plan import SECTIONS
from replication.cli import load_run
from replication.config import Config
from replication.planning.plan import PROMPT, SMALL_PROMPT, Plan
from replication.planning.sizes import HUB, QWEN3, sizes_of

GIB = 2**30
TINY = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 512,
        "hidden_size": 64, "intermediate_size": 128, "tie_word_embeddings": True}  # fmt: skip
SHAPES = {
    "4B": HUB["Qwen/Qwen3-4B"],
    "8B": HUB["Qwen/Qwen3-8B"],
    "0.3B": {**QWEN3, "num_hidden_layers": 8, "num_attention_heads": 16, "hidden_size": 1024,
             "intermediate_size": 3072, "tie_word_embeddings": True},
    "0.6B": {**QWEN3, "num_hidden_layers": 28, "num_attention_heads": 16, "hidden_size": 1024,
             "intermediate_size": 3072, "tie_word_embeddings": True},
}  # fmt: skip
RUN = (  # of all trainings here: random weights answer nothing, and are cut off
    "--trainer.logger none --grading.max_no_answer 1 --grading.max_timed_out 1 --train.max_truncated 1 "
    "--rollout.engine torch --trainer.devices 1 --grading.workers 1"
)


def on_cuda() -> bool:
    """Whether there is a GPU."""
    return torch.cuda.is_available()


def place() -> torch.device:
    """Where the tensors go."""
    return torch.device("cuda" if on_cuda() else "cpu")


def milliseconds(work: Callable[[], object], times: int = 10, warm: int = 3) -> float:
    """Median of so many calls, each waited for."""
    for _ in range(warm):
        work()
    spent = []
    for _ in range(times):
        settle()
        began = time.perf_counter()
        work()
        settle()
        spent.append(1e3 * (time.perf_counter() - began))
    return statistics.median(spent)


def copied() -> float:
    """TB/s of a copy in the device's memory, bytes read and written."""
    size = 2**31 if on_cuda() else 2**22
    a, b = (torch.empty(size, dtype=torch.uint8, device=place()) for _ in range(2))
    return 2 * size / milliseconds(lambda: b.copy_(a)) / 1e9


def multiplied() -> float:
    """TFLOP/s of a product of two square matrices of random numbers in bfloat16."""
    n = 8192 if on_cuda() else 256
    x, y = (torch.randn(n, n, device=place(), dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / milliseconds(lambda: x @ y) / 1e9


def bandwidth(rows: Rows) -> float:
    """TB/s of a copy, as the group `machine` has measured it, or measured now."""
    return rows.value(BANDWIDTH) or copied()


def flops(rows: Rows) -> float:
    """TFLOP/s of a product of matrices, as the group `machine` has measured it, or measured now."""
    return rows.value(FLOPS) or multiplied()


@contextmanager
def cudnn(enabled: bool) -> Iterator[None]:
    """Let attention take cuDNN's kernel in the block, or not."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(enabled)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def free() -> None:
    """Give the memory of what is gone back, and follow the peak from here on."""
    gc.collect()
    if on_cuda():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> float:
    """The most that was allocated on the GPU since the last `free`."""
    return torch.cuda.max_memory_allocated() / GIB if on_cuda() else 0.0


def made(size: str, setting: Setting, dtype: torch.dtype = torch.bfloat16) -> Any:
    """A Qwen3 of that size with random weights, made on the device."""
    config = Qwen3Config(**{**QWEN3, **TINY} if setting.tiny else SHAPES[size])
    torch.manual_seed(0)
    with place():
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


def kv_token(config: PretrainedConfig, element: int = 2) -> int:
    """Bytes of a token's keys and values."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * element


def least_milliseconds(model: Any, count: int, live: int, speed: float) -> float:
    """What a decoding pass takes at so many TB/s: weights are read once, and each row's keys and values."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    weights = sum(weight.nbytes for weight in model.parameters()) - (0 if embedding is head else embedding.nbytes)
    return (weights + count * live * kv_token(model.config)) / speed / 1e9


def planned(model: str, flags: str, setting: Setting) -> tuple[Plan, Config]:
    """The plan and the settings of a run, as `fit --plan` would have them; tiny: of the tiny model, in float32 without
    DeepSpeed, which compiles for minutes on a CPU."""
    gib = round(torch.cuda.get_device_properties(0).total_memory / GIB) if on_cuda() else 0
    about = f"--params {ROOT / 'params.yaml'} {RUN} --trainer.gpu_gib {gib} {flags}"
    about += " --model tiny --trainer.strategy single --trainer.precision 32" if setting.tiny else f" --model {model}"
    config = load_run([*SECTIONS], about.split()).config
    return Plan(config, sizes_of(config.policy), SMALL_PROMPT if setting.tiny else PROMPT), config
