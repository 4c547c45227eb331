"""The embedded engine on the GPU beside the CPU, by one group and by eight, and its numbers beside the trainer's."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from experiments.gpu.device import place
from experiments.gpu.groups import Setting
from experiments.gpu.rows import Rows
from replication.config import ErasureConfig, RolloutConfig
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.rollout.trace import Rollout
from replication.training.batch import sequences
from replication.training.logprobs import completion_logp

SIZE = {"vocab_size": 997, "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 8,
        "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 256, "initializer_range": 0.15,
        "tie_word_embeddings": True}  # fmt: skip
SAMPLING = RolloutConfig(group_size=8, segments=4, segment_tokens=8, max_rows=32)
ERASURE = ErasureConfig(uncertainty="entropy", window=4)


def same(rows: Rows, setting: Setting) -> None:
    """What ids and log-probabilities hold of; equality only in float32, since bfloat16 rounds by the batch."""
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest")
    model = AutoModelForCausalLM.from_config(Qwen3Config(**SIZE), dtype=torch.float32, attn_implementation="sdpa")
    prompts = [[5, 7, 11 + i] * (1 + i % 3) for i in range(8)]

    def sampled(groups: int) -> Rollout:
        keys = torch.arange(groups * SAMPLING.group_size)
        return roll_out(TorchEngine(model.eval()), prompts[:groups], keys, SAMPLING, ERASURE, [1], 0)

    there = sampled(8)
    model.to(place())
    here = sampled(8)
    equal = there.tokens == here.tokens.cpu()
    as_yet = equal.cumprod(1).bool()  # from its first other token on a row is another text
    apart = float((there.logp - here.logp.cpu())[as_yet].abs().max())
    erased = f"{int(there.erasures.sum())} erasures on the CPU, {int(here.erasures.sum())} here"
    rows.add("float32, the device against the CPU: same ids", float(equal.float().mean()), "share", ">= 0.99", erased)
    rows.add("float32, the device against the CPU: log-probabilities", apart, "nats", "<= 1e-3", "largest difference")
    again = (sampled(8).tokens == here.tokens).float().mean()
    rows.add("float32, twice: same ids", float(again), "share", ">= 1")
    alone = (sampled(1).tokens == here.tokens[: SAMPLING.group_size]).float().mean()
    rows.add("float32, one group against eight: same ids", float(alone), "share", ">= 0.95")
    model.to(torch.bfloat16)
    seqs = sequences(sampled(2), 0)
    with torch.no_grad():
        logp, _ = completion_logp(model, seqs.ids, seqs.at, seqs.tokens, 1.0)
    gap = (logp - seqs.old_logp)[seqs.token_mask].abs()
    note = f"mean; the largest is {float(gap.max()):.3g}; train.max_mismatch is 0.1"
    rows.add("bfloat16, sampler against trainer", float(gap.mean()), "nats", "<= 0.1", note)
