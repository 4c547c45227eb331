"""Settings of what is trained: the problems, the policy and its warm start."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from replication.errors import require, require_count


@dataclass
class Source:
    """Where a set of problems comes from: a hub data set at a pinned commit, or a local file of the same schema."""

    path: str
    """Hub id (owner/name), or path of a .jsonl or .parquet file"""
    revision: str | None = None
    """Commit of the hub data set; a hub id without one is refused"""
    config: str | None = None
    """Configuration (subset) name of the hub data set"""
    split: str = "train"
    """Split of the hub data set"""
    columns: dict[str, str] = field(default_factory=dict)
    """Our column -> the source's column, where the names differ (question, final_answer, difficulty, topic,
    tolerance: absolute error of a numerical answer)"""


@dataclass
class DataConfig:
    """The problems to train on and to evaluate on."""

    task: Literal["recurrence", "selfcheck", "files"] = "files"
    """A synthetic task, or `files`: the sources named below"""
    seed: int = 0
    """Seed of the synthetic problems and of the drawn subset"""
    train_problems: int = 51_000
    """Problems to train on; from a source, a subset of this size is drawn with the seed"""
    heldout_problems: int = 0
    """Problems of the synthetic task to evaluate on, disjoint from the training ones"""
    steps: int = 8
    """Reasoning steps of a synthetic problem"""
    train: Source | None = None
    """Training problems, where the task is `files`"""
    benchmarks: dict[str, Source] = field(default_factory=dict)
    """Benchmark name -> its source; whatever occurs in one is removed from the training problems"""

    def __post_init__(self) -> None:
        require_count("data", self, "train_problems")
        require_count("data", self, "heldout_problems", least=0)
        require_count("data", self, "steps", most=100)  # the small model reads 1,024 tokens, some 7 a step


@dataclass
class PolicyConfig:
    """The policy: a pretrained checkpoint, or an architecture to warm-start from nothing."""

    pretrained: str | None = None
    """Hub id or folder of a causal LM; none: the architecture below is warm-started on the task"""
    revision: str | None = None
    """Commit of the hub model"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights in rollouts and evaluation"""
    cpu_threads: int = 0
    """Threads of a CPU process; 0 leaves it to torch. Small models want 1: it is as fast, and keeps its speed where
    the cores are shared"""
    thinking: bool = False
    """Qwen3's thinking mode in the chat template (the paper does not say; see docs/ledger.md)"""
    lora_rank: int = 0
    """Rank of the adapters on every linear layer of the blocks, which alone are trained; 0 trains all weights"""
    lora_alpha: float = 32.0
    """The adapters' output is scaled by lora_alpha / lora_rank"""
    hidden_size: int = 96
    """Width"""
    layers: int = 3
    """Transformer blocks"""
    heads: int = 4
    """Query heads, each of width hidden_size / heads"""
    kv_heads: int = 2
    """Key and value heads"""
    ffn_size: int = 256
    """Width of the feed-forward layer"""

    def __post_init__(self) -> None:
        require_count("policy", self, "hidden_size", "layers", "heads", "kv_heads", "ffn_size")
        require(
            self.hidden_size % (2 * self.heads) == 0,
            "policy.heads",
            self.heads,
            "such that heads have an even width",
        )
        require(self.heads % self.kv_heads == 0, "policy.kv_heads", self.kv_heads, "a divisor of policy.heads")
        require_count("policy", self, "cpu_threads", least=0, most=1_000)
        require_count("policy", self, "lora_rank", least=0)
        require(0 < self.lora_alpha < math.inf, "policy.lora_alpha", self.lora_alpha, "a positive number")


@dataclass
class WarmstartConfig:
    """Supervised warm start of the small architecture on worked examples of the synthetic task."""

    clean_steps: int = 270
    """Optimizer steps on faultless examples"""
    noisy_steps: int = 80
    """Optimizer steps on examples in which some step results are wrong"""
    noise: float = 0.25
    """Share of wrong step results in the noisy examples"""
    batch: int = 64
    """Examples a step"""
    lr: float = 4e-3
    """Learning rate (AdamW) after a warm-up of 20 steps; over the noisy steps it falls linearly to lr_end of it"""
    lr_end: float = 0.02
    """Share of the learning rate at the last noisy step. At a constant rate rounding alone decides what the last steps
    make of the policy, and each processor rounds otherwise"""
    seed: int = 0
    """Seed of the initial weights and of the order and errors of the examples"""

    def __post_init__(self) -> None:
        require_count("warmstart", self, "clean_steps")
        require_count("warmstart", self, "noisy_steps", least=0)
        require_count("warmstart", self, "batch", most=10_000)
        require(0 <= self.noise <= 1, "warmstart.noise", self.noise, "between 0 and 1")
        require(self.lr > 0, "warmstart.lr", self.lr, "a positive number")
        require(0 < self.lr_end <= 1, "warmstart.lr_end", self.lr_end, "above 0 and at most 1")
