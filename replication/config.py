"""The settings of every stage, validated at construction."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Literal

from replication.errors import UserError


def _require(ok: bool, key: str, value: object, wanted: str) -> None:
    if not ok:
        raise UserError(f"{key} = {value!r} is not {wanted}: correct it in params.yaml or by --{key}")


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
    """Our column -> the source's column, where the names differ (question, final_answer, difficulty, topic)"""


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
        _require(self.train_problems > 0, "data.train_problems", self.train_problems, "a positive whole number")
        _require(self.heldout_problems >= 0, "data.heldout_problems", self.heldout_problems, "a whole number >= 0")
        _require(self.steps > 0, "data.steps", self.steps, "a positive whole number")


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
        for key in ("hidden_size", "layers", "heads", "kv_heads", "ffn_size"):
            _require(getattr(self, key) > 0, f"policy.{key}", getattr(self, key), "a positive whole number")
        _require(
            self.hidden_size % (2 * self.heads) == 0,
            "policy.heads",
            self.heads,
            "such that heads have an even width",
        )
        _require(self.heads % self.kv_heads == 0, "policy.kv_heads", self.kv_heads, "a divisor of policy.heads")
        _require(self.cpu_threads >= 0, "policy.cpu_threads", self.cpu_threads, "a whole number >= 0")


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
    """Learning rate (AdamW, constant after a warm-up of 20 steps)"""
    seed: int = 0
    """Seed of the initial weights and of the order and errors of the examples"""

    def __post_init__(self) -> None:
        _require(self.clean_steps > 0, "warmstart.clean_steps", self.clean_steps, "a positive whole number")
        _require(self.noisy_steps >= 0, "warmstart.noisy_steps", self.noisy_steps, "a whole number >= 0")
        _require(0 <= self.noise <= 1, "warmstart.noise", self.noise, "between 0 and 1")
        _require(self.batch > 0, "warmstart.batch", self.batch, "a positive whole number")
        _require(self.lr > 0, "warmstart.lr", self.lr, "a positive number")


@dataclass
class RolloutConfig:
    """How completions are sampled (method.md section 1)."""

    group_size: int = 16
    """G, completions a prompt"""
    temperature: float = 1.0
    """Sampling temperature; log-probabilities and uncertainties are taken at it too"""
    segments: int = 16
    """N, segments a completion at most"""
    segment_tokens: int = 512
    """L, tokens a segment; a completion has at most N x L tokens"""
    max_rows: int = 256
    """Completions in flight at once: bounds the KV cache"""

    def __post_init__(self) -> None:
        for key in ("group_size", "segments", "segment_tokens", "max_rows"):
            _require(getattr(self, key) > 0, f"rollout.{key}", getattr(self, key), "a positive whole number")
        _require(self.temperature > 0, "rollout.temperature", self.temperature, "a positive number")
        _require(self.max_rows >= self.group_size, "rollout.max_rows", self.max_rows, "at least rollout.group_size")


@dataclass
class ErasureConfig:
    """When a segment is erased (method.md sections 2 to 5)."""

    fraction: float = 1.0
    """Share of each group that rolls out with erasure, the rest plainly; 1 is the letter of the method [O]"""
    uncertainty: Literal["surprisal", "entropy"] = "surprisal"
    """H_t, the reading of "local autoregressive cross-entropy", in nats"""
    window: int = 4
    """w, tokens of the causal moving average of H_t"""
    w_base: float = 1.0
    """Weight of the base uncertainty b_n"""
    w_max: float = 0.5
    """Weight of the extreme deviation m_n"""
    w_rise: float = 0.5
    """Weight of the gradient anomaly g_n"""
    kappa: float = 0.0
    """Standard deviations above the group's mean at which the baseline beta_n lies"""
    growth: float = 0.3
    """lambda: the threshold grows by exp(lambda) with each erasure spent on the segment"""
    history: float = 0.1
    """eta: strength of the history modulation phi"""
    cap: int = 5
    """E_max, erasures a segment at most (the paper's Erase@1/3/5)"""

    def __post_init__(self) -> None:
        _require(0 <= self.fraction <= 1, "erasure.fraction", self.fraction, "between 0 and 1")
        _require(self.window > 0, "erasure.window", self.window, "a positive whole number")
        _require(self.growth >= 0, "erasure.growth", self.growth, "a number >= 0")
        _require(abs(self.history) < 1, "erasure.history", self.history, "between -1 and 1")
        _require(self.cap >= 0, "erasure.cap", self.cap, "a whole number >= 0")


@dataclass
class CreditConfig:
    """How the final reward becomes advantages (method.md section 6)."""

    advantage: Literal["group", "segment"] = "segment"
    """One advantage a completion (GRPO), or one a segment (E3RL)"""
    allocation: Literal["attention", "uniform"] = "attention"
    """c_n: by the answer's attention on each segment, or 1 (the paper's ablation without causal allocation)"""
    tau: float = 1.0
    """Temperature of the softmax over the segments' log attention"""
    eps: float = 1e-4
    """Added to the group's standard deviation (as in TRL)"""

    def __post_init__(self) -> None:
        _require(self.tau > 0, "credit.tau", self.tau, "a positive number")
        _require(self.eps > 0, "credit.eps", self.eps, "a positive number")


@dataclass
class ObjectiveConfig:
    """The clipped policy-gradient objective (method.md section 7)."""

    clip_low: float = 0.2
    """The importance ratio is clipped at 1 - clip_low"""
    clip_high: float = 0.2
    """The importance ratio is clipped at 1 + clip_high"""
    kl: float = 0.0
    """Weight of the KL divergence to the reference policy (the policy before RL); 0 holds no reference"""

    def __post_init__(self) -> None:
        for key in ("clip_low", "clip_high", "kl"):
            _require(getattr(self, key) >= 0, f"objective.{key}", getattr(self, key), "a number >= 0")


@dataclass
class TrainConfig:
    """One step: a rollout of `prompts` groups, and the optimizer steps on it."""

    steps: int = 500
    """Rollouts"""
    prompts: int = 16
    """Prompts a rollout, over all processes"""
    minibatches: int = 2
    """Optimizer steps a pass over the rollout"""
    epochs: int = 1
    """Passes over the rollout"""
    micro_rows: int = 128
    """Completions in one forward and backward pass: bounds activation memory, does not change the gradient"""
    lr: float = 1e-6
    """Learning rate of AdamW, constant after the warm-up"""
    warmup: int = 0
    """Rollouts of linear learning-rate warm-up"""
    weight_decay: float = 0.0
    """AdamW's weight decay"""
    grad_clip: float = 1.0
    """Largest gradient norm; 0 does not clip"""
    checkpoint_every: int = 10
    """Rollouts between checkpoints"""

    def __post_init__(self) -> None:
        for key in ("steps", "prompts", "minibatches", "epochs", "micro_rows", "checkpoint_every"):
            _require(getattr(self, key) > 0, f"train.{key}", getattr(self, key), "a positive whole number")
        _require(self.lr > 0, "train.lr", self.lr, "a positive number")
        for key in ("warmup", "weight_decay", "grad_clip"):
            _require(getattr(self, key) >= 0, f"train.{key}", getattr(self, key), "a number >= 0")


@dataclass
class TrainerConfig:
    """Where and how Lightning runs the training; none of it changes the method."""

    strategy: Literal["single", "ddp", "deepspeed_zero2"] = "single"
    """Lightning strategy"""
    devices: int = 1
    """Processes a node, one a GPU (or a CPU process with gloo)"""
    nodes: int = 1
    """Nodes (launch with torchrun or SLURM)"""
    precision: Literal["32", "bf16"] = "32"
    """Precision of training"""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass"""
    gpu_gib: int = 0
    """GiB of memory that each GPU must have; 0 asks for no GPU"""
    logger: Literal["dvclive", "tensorboard", "wandb", "none"] = "dvclive"
    """Where metrics go while a run lasts"""

    def __post_init__(self) -> None:
        _require(self.devices > 0, "trainer.devices", self.devices, "a positive whole number")
        _require(self.nodes > 0, "trainer.nodes", self.nodes, "a positive whole number")


@dataclass
class EvaluateConfig:
    """Sampling for Avg@k and Pass@k."""

    samples: int = 16
    """k, completions a problem"""
    problems: int = 0
    """Problems a benchmark, from its start; 0 is all"""
    benchmarks: list[str] = field(default_factory=list)
    """Which of the prepared benchmarks; none named: all"""
    modes: list[Literal["plain", "erased"]] = field(default_factory=lambda: ["plain", "erased"])
    """Erasure off, on, or both (the paper does not say which its figures are)"""
    temperature: float = 1.0
    """Sampling temperature"""
    seed: int = 0
    """Seed of the samples"""

    def __post_init__(self) -> None:
        _require(self.samples > 0, "evaluate.samples", self.samples, "a positive whole number")
        _require(self.problems >= 0, "evaluate.problems", self.problems, "a whole number >= 0")
        _require(bool(self.modes), "evaluate.modes", self.modes, "at least one of plain, erased")
        _require(self.temperature > 0, "evaluate.temperature", self.temperature, "a positive number")


SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "policy": PolicyConfig,
    "warmstart": WarmstartConfig,
    "rollout": RolloutConfig,
    "erasure": ErasureConfig,
    "credit": CreditConfig,
    "objective": ObjectiveConfig,
    "train": TrainConfig,
    "trainer": TrainerConfig,
    "evaluate": EvaluateConfig,
}


ALGORITHM_ONLY = {"credit", "objective"}  # dvc.yaml looks for them under `algorithms`


@dataclass
class Config:
    """All sections; a command fills those it reads and leaves the others at their defaults."""

    data: DataConfig = field(default_factory=DataConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    warmstart: WarmstartConfig = field(default_factory=WarmstartConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    erasure: ErasureConfig = field(default_factory=ErasureConfig)
    credit: CreditConfig = field(default_factory=CreditConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def fingerprint(self, *sections: str) -> str:
        """Hash of the named sections, to tell whether a checkpoint belongs to these settings."""
        text = json.dumps({s: dataclasses.asdict(getattr(self, s)) for s in sections}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
