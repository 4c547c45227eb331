"""Who writes: an engine and a tokenizer, with what both say of prompts and of ends."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from replication.config import ErasureConfig, RolloutConfig
from replication.data.sources import Problem
from replication.data.template import prompt_ids
from replication.errors import UserError
from replication.loading import eos_ids
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import at_one_go, rolling
from replication.rollout.engines import build_engine
from replication.rollout.protocol import Engine
from replication.rollout.trace import Rollout


@dataclass(frozen=True)
class Policy:
    """What completions of problems are sampled from."""

    engine: Engine
    tokenizer: Any
    ends: Sequence[int]  # ids that end a completion
    thinking: bool = False  # Qwen3's thinking mode, where the chat template knows it
    wording: str | None = None  # of an evaluation's prompts, where it is not the training's

    @classmethod
    def of(
        cls,
        model: Any,
        tokenizer: Any,
        thinking: bool = False,
        rollout: RolloutConfig | None = None,
        problems: Sequence[Problem] = (),
        wording: str | None = None,
    ) -> Policy:
        """A transformers causal LM, on the engine that the settings name; the embedded one without any.

        Args:
            model, tokenizer: what samples.
            thinking: Qwen3's thinking mode, where the chat template knows it.
            rollout: the settings.
            problems: all that will be sampled from; vLLM is made for the longest.
            wording: of an evaluation's prompts, where it is not the training's.
        """

        def widest() -> int:
            if not problems:
                raise UserError("vLLM is made for the longest prompt: name all problems that will be sampled from")
            return max(len(prompt_ids(tokenizer, problem.question, thinking, wording)) for problem in problems)

        engine = build_engine(model, tokenizer, rollout, widest) if rollout else TorchEngine(model)
        return cls(engine, tokenizer, eos_ids(model, tokenizer), thinking, wording)

    def rolling(
        self,
        problems: Sequence[Problem],
        keys: Sequence[int],
        rollout: RolloutConfig,
        erasure: ErasureConfig,
        running: Tensor | None = None,
    ) -> Generator[None, None, Rollout]:
        """A group of completions for every problem, in steps; as `engine.rolling`, where `keys` are explained."""
        prompts = [prompt_ids(self.tokenizer, p.question, self.thinking, self.wording) for p in problems]
        pad = self.tokenizer.pad_token_id
        return rolling(self.engine, prompts, torch.tensor(keys), rollout, erasure, self.ends, pad, running)

    roll_out = at_one_go(rolling)

    def texts(self, done: Rollout) -> list[str]:
        """Each completion's text, without special tokens."""
        ids = [row[:end] for row, end in zip(done.tokens.tolist(), done.length.tolist(), strict=True)]
        texts: list[str] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts
