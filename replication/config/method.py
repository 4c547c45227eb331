"""Settings of the method: rollout, erasure, credit and objective."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from replication.errors import UserError, require, require_count


@dataclass
class RolloutConfig:
    """How completions are sampled (method.md section 1)."""

    engine: Literal["torch", "vllm", "server"] = "torch"
    """What makes the tokens: the embedded engine, vLLM (docs/engines.md), or a server elsewhere (docs/serving.md)"""
    server: str | None = None
    """With server: its address, as http://127.0.0.1:8000, or several with commas between"""
    served: str | None = None
    """With server: the name that it serves the model under, where that is not the model's own"""
    reproducible: bool = True
    """With vllm: a seed a segment, so that a completion does not depend on what else is sampled; costs time"""
    gpu_share: float = 0.3
    """With vllm: share of each GPU's memory that is its own"""
    group_size: int = 16
    """G, completions a prompt"""
    temperature: float = 1.0
    """Sampling temperature; log-probabilities and uncertainties are taken at it too"""
    cool_fraction: float = 0.0
    """Share of each group, its last members, that is drawn at cool_temperature: a control for erasure [O]"""
    cool_temperature: float = 0.5
    """Temperature of the draw of those members; their log-probabilities are still taken at `temperature`"""
    segments: int = 16
    """N, segments a completion at most"""
    segment_tokens: int = 512
    """L, tokens a segment; a completion has at most N x L tokens"""
    max_rows: int = 256
    """Completions in flight at once: bounds the KV cache"""
    lanes: int = 0
    """With torch: completions decoded in one forward pass, at most; 0 is max_rows. With fewer lanes than rows a pass
    stays full while others wait for their group"""
    top_k: int = 0
    """Draw from the k likeliest tokens only; 0 is all. For decoding, not for training; log-probabilities and
    uncertainties stay those of the whole distribution"""
    top_p: float = 1.0
    """Draw from the smallest set of likeliest tokens that holds this mass; 1 is all; as top_k otherwise"""

    def __post_init__(self) -> None:
        require_count("rollout", self, "group_size", most=10_000)
        require_count("rollout", self, "segments", "segment_tokens", "max_rows")
        require_count("rollout", self, "lanes", "top_k", least=0)
        for key in ("temperature", "cool_temperature"):
            require(getattr(self, key) > 0, f"rollout.{key}", getattr(self, key), "a positive number")
        require(0 < self.gpu_share < 1, "rollout.gpu_share", self.gpu_share, "between 0 and 1")
        require(0 <= self.cool_fraction <= 1, "rollout.cool_fraction", self.cool_fraction, "between 0 and 1")
        require(self.max_rows >= self.group_size, "rollout.max_rows", self.max_rows, "at least rollout.group_size")
        require(0 < self.top_p <= 1, "rollout.top_p", self.top_p, "above 0 and at most 1")
        lanes = not self.lanes or self.engine == "torch"
        require(lanes, "rollout.lanes", self.lanes, f"possible with rollout.engine {self.engine}")
        if self.engine == "server" and not self.server:
            raise UserError("rollout.engine = server needs its address: give --rollout.server http://host:port")
        for address in self.addresses:
            check_address(address)

    @property
    def addresses(self) -> list[str]:
        """Of the servers, each once."""
        return list(dict.fromkeys(part.strip() for part in (self.server or "").split(",") if part.strip()))


def check_address(address: str) -> None:
    """Raise a `UserError` for what is no server's address. One that may hold a key is not repeated."""
    if any(sign in address for sign in "@?#"):
        raise UserError(
            "rollout.server has a user, a key or a query in it: give http://host:port alone, and a key by the "
            "environment (docs/serving.md)"
        )
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    require(
        good and address.isascii() and address.isprintable() and " " not in address,
        "rollout.server",
        address,
        "an address such as http://127.0.0.1:8000",
    )


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
    baseline: Literal["group", "batch", "running", "fixed"] = "group"
    """What beta_n is the mean U of: the group (the letter), all groups in flight, earlier steps of the training, or no
    mean at all but `level` (the paper's ablation without group dynamics) [O]"""
    kappa: float = 0.0
    """Standard deviations above the mean at which the baseline beta_n lies"""
    level: float = 1.0
    """beta_n in nats where the baseline is fixed"""
    floor: float = 0.0
    """No segment is erased whose U_n is below this, in nats, so that a confident policy stops erasing; 0 is the letter
    of the method [O]"""
    growth: float = 0.3
    """lambda: the threshold grows by exp(lambda) with each erasure spent on the segment"""
    history: float = 0.1
    """eta: strength of the history modulation phi"""
    cap: int = 5
    """E_max, erasures a segment at most (the paper's Erase@1/3/5)"""

    def __post_init__(self) -> None:
        require(0 <= self.fraction <= 1, "erasure.fraction", self.fraction, "between 0 and 1")
        require_count("erasure", self, "window")
        require_count("erasure", self, "cap", least=0, most=1_000)
        require(self.growth >= 0, "erasure.growth", self.growth, "a number >= 0")
        require(abs(self.history) < 1, "erasure.history", self.history, "between -1 and 1")
        require(self.level > 0, "erasure.level", self.level, "a positive number of nats")
        require(self.floor >= 0, "erasure.floor", self.floor, "a number of nats >= 0")


@dataclass
class CreditConfig:
    """How the final reward becomes advantages (method.md section 6)."""

    advantage: Literal["group", "segment"] = "segment"
    """One advantage a completion (GRPO), or one a segment (E3RL)"""
    allocation: Literal["attention", "uniform"] = "attention"
    """c_n: by the answer's attention on each segment, or 1 (the paper's ablation without causal allocation)"""
    tau: float = 1.0
    """Temperature of the softmax over the segments' log attention"""
    scale: Literal["std", "none"] = "std"
    """Whether advantages are divided by the standard deviation; Dr. GRPO does not"""
    eps: float = 1e-4
    """Added to the standard deviation (as in TRL)"""
    negatives: bool = False
    """Erased segments enter their segment's group as samples with return 0, and are trained on [O]"""
    acceptance: bool = False
    """Weight a segment that erasure accepted by its group's acceptance rate: an estimate of the policy's probability
    over that of the policy given acceptance [O]"""
    overlong_buffer: float = 0.0
    """DAPO's soft overlong penalty: share of the longest completion over which the reward falls by up to
    overlong_penalty; 0 is none"""
    overlong_penalty: float = 1.0
    """Reward lost by a completion of the longest length"""

    def __post_init__(self) -> None:
        require(self.tau > 0, "credit.tau", self.tau, "a positive number")
        require(self.eps > 0, "credit.eps", self.eps, "a positive number")
        require(0 <= self.overlong_buffer <= 1, "credit.overlong_buffer", self.overlong_buffer, "between 0 and 1")
        require(self.overlong_penalty >= 0, "credit.overlong_penalty", self.overlong_penalty, "a number >= 0")
        require(
            not self.negatives or self.advantage == "segment", "credit.negatives", True, "possible without segments"
        )
        require(  # beside a reward below 0 an erased attempt's 0 would look good
            not (self.negatives and self.overlong_buffer),
            "credit.negatives",
            True,
            "possible with credit.overlong_buffer",
        )


@dataclass
class ObjectiveConfig:
    """The policy-gradient objective (method.md section 7); docs/objectives.md maps algorithms to these settings."""

    level: Literal["token", "sequence"] = "token"
    """Importance ratio of each token, or GSPO's: the geometric mean of a completion's ratios"""
    surrogate: Literal["clip", "sigmoid"] = "clip"
    """PPO's clip, or SAPO's smooth gate"""
    clip_low: float = 0.2
    """The importance ratio is clipped at 1 - clip_low"""
    clip_high: float = 0.2
    """The importance ratio is clipped at 1 + clip_high; DAPO's clip-higher is 0.28"""
    tau_positive: float = 1.0
    """SAPO's temperature of the gate where the advantage is positive"""
    tau_negative: float = 1.05
    """SAPO's temperature of the gate elsewhere"""
    aggregate: Literal["row_mean", "token_mean", "row_sum"] = "row_mean"
    """Mean over completions of the mean over their tokens (GRPO), mean over all tokens (DAPO), or mean over completions
    of their sum over the longest length (Dr. GRPO)"""
    kl: float = 0.0
    """Weight of the KL divergence to the reference policy (the policy before RL); 0 holds no reference"""
    correction: Literal["auto", "none", "truncate", "mask"] = "auto"
    """Weight of a token's loss where sampler and trainer give it different probabilities: the ratio of the two, at most
    correction_cap (`truncate`), or 0 outside of correction_low to correction_high (`mask`, IcePop). `auto` truncates
    where the engine is vllm, and where it is torch with LoRA in bf16; elsewhere it is none"""
    correction_cap: float = 2.0
    """Largest weight of `truncate`"""
    correction_low: float = 0.5
    """Smallest ratio of trainer to sampler that `mask` keeps"""
    correction_high: float = 5.0
    """Largest ratio of trainer to sampler that `mask` keeps"""

    def __post_init__(self) -> None:
        for key in ("clip_low", "clip_high", "kl"):
            require(getattr(self, key) >= 0, f"objective.{key}", getattr(self, key), "a number >= 0")
        for key in ("tau_positive", "tau_negative"):
            require(getattr(self, key) > 0, f"objective.{key}", getattr(self, key), "a positive number")
        for key in ("correction_cap", "correction_high"):  # where both agree, the ratio is 1
            require(1 <= getattr(self, key) < math.inf, f"objective.{key}", getattr(self, key), "a number >= 1")
        require(0 <= self.correction_low <= 1, "objective.correction_low", self.correction_low, "between 0 and 1")

    def correction_of(self, differ: bool) -> Literal["none", "truncate", "mask"]:
        """What `auto` stands for where sampler and trainer differ, and where they do not."""
        if self.correction == "auto":
            return "truncate" if differ else "none"
        return self.correction
