"""The engine that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from replication.config import RolloutConfig
from replication.rollout.agreement import TOKENS
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.protocol import Engine


def build_engine(model: Any, tokenizer: Any, rollout: RolloutConfig, widest: Callable[[], int]) -> Engine:
    """What samples from a model.

    Args:
        model: a transformers causal LM; a server needs none of its weights.
        tokenizer: what makes its prompts.
        rollout: the settings, `rollout.engine` among them.
        widest: tells the tokens of the longest prompt to come, for an engine that must know.

    Raises:
        UserError: a model that cannot be rolled out, or a server that does not give what a rollout needs.
    """
    if rollout.engine == "torch":
        return TorchEngine(model)
    if rollout.engine == "server":
        from replication.rollout.server.engine import ServerEngine

        return ServerEngine(model, tokenizer, rollout)
    from replication.rollout.vllm.engine import VLLMEngine

    longest = max(widest() + rollout.segments * rollout.segment_tokens, 1 + TOKENS)  # what it is looked at with
    return VLLMEngine(model, longest, rollout.max_rows, rollout.gpu_share, rollout.reproducible)
