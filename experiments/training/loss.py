"""Memory of the loss by the number of tokens: in chunks, as the trainer does, and with the logits of all tokens.

    python -m experiments.training.loss -> reports/training.json

What it should show: without chunks every token adds four tensors of the vocabulary; with them it adds what a token's
hidden states take, on top of a constant: those four tensors, of a chunk. The gradients are the same. The model is a
Qwen3 that is real but narrow, so that the head is all there is.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from experiments.decoding.bench import Table
from experiments.training import measure
from experiments.training.table import GIB, available, store
from replication.config import ObjectiveConfig
from replication.errors import Parser, run_command
from replication.objectives.objective import token_loss
from replication.rollout.sampling import tempered_logp
from replication.rollout.uncertainty import token_entropy, token_surprisal
from replication.training import logprobs

VOCABULARY = 151_936  # Qwen3's
SPARE = 2 * GIB  # left to others by the largest unchunked loss
Scores = Callable[..., tuple[Tensor, Tensor]]


def narrow_model(vocabulary: int) -> Any:
    """One block of width 64 between an embedding and an output head of their own."""
    torch.manual_seed(0)
    architecture = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        intermediate_size=128,
        max_position_embeddings=2**15,
        tie_word_embeddings=False,
        initializer_range=0.125,  # 1 / sqrt(64): logits that differ
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(architecture).train()


def unchunked(model: Any, ids: Tensor, at: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """What `completion_logp` gives, the plain way: the logits of all tokens at once, kept for the backward pass."""
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    before = hidden.gather(1, (at - 1)[..., None].expand(-1, -1, hidden.shape[-1]))
    logp = tempered_logp(model.get_output_embeddings()(before), temperature)  # [r, T, V]
    return -token_surprisal(logp, tokens), token_entropy(logp.detach())


def loss_of(model: Any, scores: Scores, tokens: int) -> Tensor:
    """GRPO's loss of one completion of so many tokens after a prompt of one, some of whose ratios are clipped."""
    draw = torch.Generator().manual_seed(tokens)
    ids = torch.randint(model.config.vocab_size, (1, tokens + 1), generator=draw)
    at = torch.arange(1, tokens + 1)[None]
    logp, _ = scores(model, ids, at, ids[:, 1:], 1.0)
    old = logp.detach() + 0.2 * torch.randn(logp.shape, generator=draw)
    advantage = torch.randn(logp.shape, generator=draw)
    return token_loss(ObjectiveConfig(), logp, old, advantage, torch.ones_like(at, dtype=torch.bool)).loss.mean()


def peak_and_seconds(model: Any, scores: Scores, tokens: int) -> tuple[int, float]:
    """The most bytes allocated beyond those at the start, gradients included, of forward and backward; and seconds."""
    model.zero_grad()
    gc.collect()
    start = time.perf_counter()
    with measure.allocations() as seen:
        loss_of(model, scores, tokens).backward()
    return seen.peak, time.perf_counter() - start


def gradient_difference(model: Any, tokens: int) -> float:
    """Largest difference of a gradient between three chunks and none, over the largest entry of its matrix."""
    gradients = []
    with mock.patch.object(logprobs, "LOGITS", model.config.vocab_size * -(-tokens // 3)):
        for scores in (logprobs.completion_logp, unchunked):
            model.zero_grad()
            loss_of(model, scores, tokens).backward()
            gradients.append([weight.grad.clone() for weight in model.parameters()])
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*gradients, strict=True))


def line(peaks: dict[int, int]) -> tuple[float, float, float]:
    """Slope in bytes a token, constant in bytes, and the largest share by which a peak is off the line."""
    slope, constant = np.polyfit(list(peaks), list(peaks.values()), 1)
    off = max(abs(slope * size + constant - peak) / peak for size, peak in peaks.items())
    return float(slope), float(constant), float(off)


def compare(table: Table, model: Any, sizes: Sequence[int]) -> None:
    """Add the rows for completions of these lengths, which double; the last is not run without chunks if it does not
    fit beside what else runs here."""
    vocabulary, chunk = model.config.vocab_size, logprobs.chunk_tokens(model.config.vocab_size)
    ours, plain, seconds = {}, {}, {}
    for size in sizes:
        ours[size], spent = peak_and_seconds(model, logprobs.completion_logp, size)
        note = ""
        if size == sizes[-1] and available() < 2 * plain[sizes[-2]] + SPARE:
            slope, constant, _ = line(plain)
            peer = slope * size + constant
            note = f"plain: not run, {available() / GIB:.1f} GiB free; by the line through the others"
        else:
            plain[size], taken = peak_and_seconds(model, unchunked, size)
            peer, seconds[size] = plain[size], (spent, taken)
        wanted = f"<= {min(1.01, chunk / size + 0.05):.2f}"
        table.add(f"loss, {size} x {vocabulary}, peak", ours[size], peer, "bytes", wanted, note)
    longest = max(seconds)
    note = "the logits are made twice"
    table.add(f"loss, {longest} x {vocabulary}, forward and backward", *seconds[longest], "s", "<= 1.5", note)
    difference = gradient_difference(model, sizes[0])
    table.add(f"loss, {sizes[0]} x {vocabulary}, gradients", difference, 1.0, "of the largest", "<= 1e-5", "3 chunks")
    slope, constant, off = line({size: peak for size, peak in ours.items() if size > chunk})
    plain_slope, plain_constant, plain_off = line(plain)
    note = f"peaks are off the line by {off:.2%}, plain by {plain_off:.2%}"
    table.add(f"loss, V {vocabulary}, a token more", slope, plain_slope, "bytes", "<= 0.01", note)
    note = f"a chunk is {chunk} tokens; plain: constant {plain_constant / 2**20:.0f} MiB"
    table.add(
        f"loss, V {vocabulary}, constant, logits of a chunk",
        constant,
        4.0 * chunk * vocabulary,
        "bytes",
        "<= 4.5",
        note,
    )


def main() -> None:
    parser = Parser(prog="python -m experiments.training.loss", description=__doc__)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY, help="size of the output head")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096, 8192], help="tokens, doubling")
    parser.add_argument("--out", type=Path, default=Path("reports/training.json"), help="file whose rows are replaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table()
    print(f"{'':56s} {'ours':>11s} {'plain':>11s} {'ratio':>7s}  wanted")
    compare(table, narrow_model(options.vocabulary), options.sizes)
    store(options.out, table.rows, threads=1)
    print(f"-> {options.out}")


if __name__ == "__main__":
    run_command(main)
