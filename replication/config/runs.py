"""Settings of a run: training, machine, evaluation."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from replication.config.profiles import OWN, profile_settings
from replication.errors import require, require_count


@dataclass
class TrainConfig:
    """One step: a rollout of `prompts` groups, and the optimizer steps on it."""

    steps: int = 500
    """Rollouts"""
    prompts: int = 16
    """Prompts a rollout, over all processes"""
    minibatches: int = 2
    """Optimizer steps a pass over the rollout"""
    refills: int = 0
    """DAPO's dynamic sampling: further problems tried at most in place of one whose group's rewards are all equal"""
    epochs: int = 1
    """Passes over the rollout"""
    micro_rows: int = 128
    """Completions in one forward and backward pass: bounds activation memory, does not change the gradient"""
    width_multiple: int = 1
    """Widths of these passes are multiples of this, in tokens: a GPU plans its attention anew for every width"""
    lr: float = 1e-6
    """Learning rate of AdamW after the warm-up"""
    warmup: int = 0
    """Rollouts of linear learning-rate warm-up"""
    lr_end: float = 1.0
    """Share of the learning rate at the last rollout, to which it falls linearly after the warm-up; 1 is constant"""
    weight_decay: float = 0.0
    """AdamW's weight decay"""
    grad_clip: float = 1.0
    """Largest gradient norm; 0 does not clip"""
    checkpoint_every: int = 10
    """Rollouts between checkpoints"""
    keep_checkpoints: int = 2
    """Newest checkpoints kept while a run lasts, beside the best one, by validation or else by reward"""
    keep: Literal["none", "last", "best"] = "none"
    """Which checkpoint stays after the run's end; of the best one the policy is exported, too, into `best` of --out"""
    max_silent_steps: int = 50
    """Steps in a row without any group whose rewards differ, at which the run stops; 0 for never"""
    max_mismatch: float = 0.1
    """Largest mean difference between the sampler's and the trainer's log-probabilities, in nats a token"""
    max_truncated: float = 1.0
    """Largest share of completions cut off at their longest length"""
    validate_every: int = 0
    """Rollouts between plain samplings of held-out problems; 0 for none"""
    validate_problems: int = 128
    """Held-out problems of a validation, from the start of the first benchmark"""
    validate_samples: int = 4
    """Completions of each"""

    def __post_init__(self) -> None:
        require_count("train", self, "steps", "minibatches", "micro_rows", "checkpoint_every", "keep_checkpoints")
        require_count("train", self, "width_multiple", most=100_000)
        require_count("train", self, "prompts", "validate_problems", "validate_samples", most=10_000)
        require_count("train", self, "epochs", most=1_000)
        require_count("train", self, "warmup", "validate_every", "max_silent_steps", least=0)
        require_count("train", self, "refills", least=0, most=1_000)
        require(self.lr > 0, "train.lr", self.lr, "a positive number")
        require(0 < self.lr_end <= 1, "train.lr_end", self.lr_end, "above 0 and at most 1")
        require(0 <= self.max_truncated <= 1, "train.max_truncated", self.max_truncated, "between 0 and 1")
        for key in ("weight_decay", "grad_clip", "max_mismatch"):
            require(getattr(self, key) >= 0, f"train.{key}", getattr(self, key), "a number >= 0")


@dataclass
class TrainerConfig:
    """Where and how Lightning runs the training; none of it changes the method."""

    strategy: Literal["single", "ddp", "deepspeed_zero2", "deepspeed_zero3"] = "single"
    """Lightning strategy; ZeRO-2 shares optimizer states and gradients out over processes, ZeRO-3 weights too"""
    offload: Literal["none", "optimizer", "parameters"] = "none"
    """What DeepSpeed keeps in CPU memory: the optimizer's states and its step, and under ZeRO-3 the weights too"""
    devices: int = 1
    """Processes a node, one a GPU (or a CPU process with gloo)"""
    nodes: int = 1
    """Nodes (launch with torchrun or SLURM)"""
    precision: Literal["32", "bf16"] = "32"
    """Precision of training"""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass"""
    kernels: Literal["torch", "liger"] = "torch"
    """Of the policy's norms, feed-forward layers and rotary positions: torch's own, or fused ones, for GPUs alone"""
    gpu_gib: int = 0
    """GiB of memory that each GPU must have; 0 asks for no GPU"""
    silence: int = 120
    """Seconds that a process may be silent, as a stopped one is, before the others end and name it; 0 watches nothing,
    and lets max_wait be that of the collectives alone"""
    max_wait: int = 720
    """Minutes that the processes may wait for each other, as for the one with the longest rollout"""
    logger: Literal["dvclive", "tensorboard", "wandb", "none"] = "dvclive"
    """Where metrics go while a run lasts"""

    def __post_init__(self) -> None:
        require_count("trainer", self, "devices", "nodes", most=10_000)
        require_count("trainer", self, "gpu_gib", "silence", least=0)
        require_count("trainer", self, "max_wait", most=100_000)
        takes = {"none"} | ({"optimizer"} if "zero" in self.strategy else set())
        takes |= {"parameters"} if self.strategy == "deepspeed_zero3" else set()
        require(self.offload in takes, "trainer.offload", self.offload, f"what {self.strategy} can do")


@dataclass
class GradingConfig:
    """The grader, of rewards and of evaluations, and when its verdicts stop a run."""

    workers: int = 2
    """Worker processes for what plain text cannot decide, for each process that grades"""
    time_limit: float = 1.0
    """CPU seconds for one check; one that is stopped there is done once more, with three times as many"""
    memory_gib: float = 1.0
    """GiB of address space for one check"""
    max_no_answer: float = 0.9
    """Largest share of completions without an answer, in a training step or a benchmark; above it the run stops"""
    max_timed_out: float = 0.05
    """Largest share of completions whose check was stopped"""

    def __post_init__(self) -> None:
        require_count("grading", self, "workers", most=1_000)
        for key in ("time_limit", "memory_gib"):
            value = getattr(self, key)
            require(0 < value <= 1_000_000, f"grading.{key}", value, "a positive number, at most 1,000,000")
        for key in ("max_no_answer", "max_timed_out"):
            require(0 <= getattr(self, key) <= 1, f"grading.{key}", getattr(self, key), "between 0 and 1")


@dataclass
class EvaluateConfig:
    """Sampling for the metrics of an evaluation."""

    profile: str = OWN
    """A named set of settings (docs/profiles.md), stronger than params.yaml. A flag that says otherwise wins, and the
    rows of the results name it; own is no profile"""
    samples: int = 16
    """k, completions a problem"""
    problems: int = 0
    """Problems a benchmark, from its start; 0 is all"""
    benchmarks: list[str] = field(default_factory=list)
    """Which of the prepared benchmarks; none named: all"""
    modes: list[str] = field(default_factory=lambda: ["plain", "erased"])
    """Erasure off (`plain`) and on (`erased`); `plain@0.5` is at a temperature of its own (the paper does not say which
    its figures are)"""
    temperature: float = 1.0
    """Sampling temperature of the modes that name none"""
    top_k: int = 0
    """Draw from the k likeliest tokens only; 0 is all"""
    top_p: float = 1.0
    """Draw from the smallest set of likeliest tokens that holds this mass; 1 is all"""
    wording: str | None = None
    """The prompt, with {question} where the problem stands; none is the training's"""
    seed: int = 0
    """Seed of the samples"""

    def __post_init__(self) -> None:
        profile_settings(self.profile)  # which must be there
        once = self.wording is None or self.wording.count("{question}") == 1
        require(once, "evaluate.wording", self.wording, "a text with {question} in it once")
        require_count("evaluate", self, "samples", most=10_000)
        require_count("evaluate", self, "problems", "top_k", least=0)
        distinct = bool(self.modes) and len(set(self.modes)) == len(self.modes)
        known = "different modes, each plain or erased, or with a temperature such as plain@0.5"
        require(distinct and all(map(_is_mode, self.modes)), "evaluate.modes", self.modes, known)
        require(self.temperature > 0, "evaluate.temperature", self.temperature, "a positive number")
        require(0 < self.top_p <= 1, "evaluate.top_p", self.top_p, "above 0 and at most 1")

    def sampling(self, mode: str) -> tuple[bool, float]:
        """Whether a mode erases, and its temperature."""
        kind, _, temperature = mode.partition("@")
        return kind == "erased", float(temperature or self.temperature)


def _is_mode(text: str) -> bool:
    found = re.fullmatch(r"(?:plain|erased)(?:@(\d+(?:\.\d+)?|\.\d+))?", text)
    return found is not None and (found[1] is None or float(found[1]) > 0)
