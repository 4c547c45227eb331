"""The settings of every stage, validated at construction."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from replication.config.base import DataConfig, PolicyConfig, Source, WarmstartConfig
from replication.config.method import CreditConfig, ErasureConfig, ObjectiveConfig, RolloutConfig
from replication.config.profiles import OWN, profile_label
from replication.config.runs import EvaluateConfig, GradingConfig, TrainConfig, TrainerConfig

__all__ = [
    "Config",
    "CreditConfig",
    "DataConfig",
    "ErasureConfig",
    "EvaluateConfig",
    "GradingConfig",
    "ObjectiveConfig",
    "PolicyConfig",
    "RolloutConfig",
    "Source",
    "TrainConfig",
    "TrainerConfig",
    "WarmstartConfig",
]

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
    "grading": GradingConfig,
    "evaluate": EvaluateConfig,
}


ALGORITHM_ONLY = {"credit", "objective"}  # dvc.yaml looks for them under `algorithms`
LATER = {"profile": OWN, "wording": None}  # settings that did not always exist, where they say nothing


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
    grading: GradingConfig = field(default_factory=GradingConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    @property
    def correction(self) -> Literal["none", "truncate", "mask"]:
        """The correction that a training makes."""
        return self.objective.correction_of(self.engines_differ)

    @property
    def engines_differ(self) -> bool:
        """Whether sampler and trainer may give a token different probabilities. The embedded engine is the trainer's
        own model, but samples from merged adapters: in bfloat16 their sum loses part of a small update."""
        rounded = self.policy.lora_rank > 0 and self.trainer.precision == "bf16"
        return self.rollout.engine != "torch" or rounded

    @property
    def scores_first(self) -> bool:
        """Whether the trainer scores the samples before it updates: a correction needs its log-probabilities of then,
        which a single update has by itself."""
        return self.correction != "none" and self.train.minibatches * self.train.epochs > 1

    def fingerprint(self, *sections: str) -> str:
        """Hash of the named sections, to tell whether a checkpoint belongs to these settings; where a server stands
        is not one of them."""
        found = {s: _counted(getattr(self, s)) for s in sections}
        found.get("rollout", {}).pop("server", None)
        text = json.dumps(found, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def profile_label(self) -> str:
        """The profile of an evaluation as its rows name it: with the settings that are not the profile's."""
        settings = {f"{s}.{k}": v for s in SECTIONS for k, v in vars(getattr(self, s)).items()}
        return profile_label(self.evaluate.profile, settings)


def _counted(section: Any) -> dict[str, Any]:
    """A section as the hash has it: as ever where a later setting says nothing."""
    return {k: v for k, v in dataclasses.asdict(section).items() if k not in LATER or v != LATER[k]}
