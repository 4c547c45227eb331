"""A run's settings and its model's sizes, and what follows from them for memory and time alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from replication.config import Config
from replication.planning.sizes import Sizes
from replication.training.batch import Widths

SMALL_PROMPT, PROMPT = 12, 256  # tokens: a synthetic problem of 8 steps, `34:+-+-+-+->`, and what is assumed elsewhere
# shares of segments that are erased at least once, twice, three times: of the small default, the mean of before and
# after its training (`python -m experiments.training.erasures`)
AGAIN = 0.2, 0.05, 0.01


@dataclass(frozen=True)
class Plan:
    """Settings and sizes, and the numbers that follow from them and that several formulas share."""

    config: Config
    sizes: Sizes
    prompt: int  # tokens of a prompt

    @property
    def world(self) -> int:
        return self.config.trainer.devices * self.config.trainer.nodes

    @property
    def stage(self) -> int:
        """DeepSpeed's ZeRO stage; 0 without DeepSpeed."""
        strategy = self.config.trainer.strategy
        return int(strategy[-1]) if strategy.startswith("deepspeed") else 0

    @property
    def element(self) -> int:
        """Bytes of a weight: DeepSpeed casts the model to bfloat16, Lightning's bf16-mixed keeps float32."""
        return 2 if self.stage and self.config.trainer.precision == "bf16" else 4

    @property
    def mixed(self) -> bool:
        """Whether matrix products are autocast to bfloat16 from float32 weights."""
        return not self.stage and self.config.trainer.precision == "bf16"

    @property
    def trained(self) -> int:
        """Weights that are trained: all, or LoRA's adapters."""
        return self.sizes.adapters or self.sizes.parameters

    @property
    def shards(self) -> int:
        """Processes that share the optimizer's state (and the gradients) under ZeRO."""
        return self.world if self.stage else 1

    @property
    def longest(self) -> int:
        """T: tokens of the longest completion."""
        return self.config.rollout.segments * self.config.rollout.segment_tokens

    @property
    def groups(self) -> int:
        """Prompts of a process in a step."""
        return math.ceil(self.config.train.prompts / self.world)

    @property
    def rows(self) -> int:
        """Completions of a process in a step."""
        return self.groups * self.config.rollout.group_size

    @property
    def in_flight(self) -> int:
        """Rows of the KV cache that a training step's completions take."""
        return min(self.config.rollout.max_rows, self.rows)

    @property
    def busy_lanes(self) -> int:
        """Of those, rows decoded at once."""
        return min(self.config.rollout.lanes or self.in_flight, self.in_flight)

    @property
    def slots(self) -> int:
        """Rows of the KV cache; a validation's too, whose groups have another size."""
        train, most = self.config.train, self.config.rollout.max_rows
        held_out = (
            math.ceil(train.validate_problems / self.world) * train.validate_samples if train.validate_every else 0
        )
        return max(self.in_flight, min(max(most, train.validate_samples), held_out))

    @property
    def lanes(self) -> int:
        """Rows decoded at once, a validation's too."""
        return min(self.config.rollout.lanes or self.slots, self.slots)

    @property
    def attempts(self) -> float:
        """Erased attempts a completion, on average, that are rows of their own in training (credit.negatives)."""
        return self.erasures * self.config.rollout.segments * self.config.credit.negatives

    @property
    def erasing(self) -> int:
        """Members of a group that roll out with erasure."""
        rule = self.config.erasure
        return int(rule.fraction * self.config.rollout.group_size + 0.5) if rule.cap else 0

    @property
    def erasures(self) -> float:
        """Of a segment of any completion, on average."""
        return sum(AGAIN[: self.config.erasure.cap]) * self.erasing / self.config.rollout.group_size

    @property
    def looks_back(self) -> bool:
        """Whether credit takes the attention of the answers."""
        credit = self.config.credit
        return credit.advantage == "segment" and credit.allocation == "attention"

    @property
    def micro(self) -> int:
        """Rows of a micro-batch."""
        return min(self.config.train.micro_rows, max(1, self.rows // self.config.train.minibatches))

    @property
    def accumulates(self) -> bool:
        """Whether an optimizer step sums the gradients of several micro-batches."""
        return self.rows * (1 + self.attempts) > self.config.train.minibatches * self.micro

    @property
    def tokens(self) -> int:
        """n: tokens of a micro-batch, each row with the longest completion."""
        return self.micro * Widths(self.config.train.width_multiple).of(self.prompt + self.longest)
