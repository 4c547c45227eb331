"""What a faster embedded engine could reach: a pass with its draw over static slots, as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.gpu.device import bandwidth, cudnn, free, least_milliseconds, made, milliseconds, on_cuda, place
from experiments.gpu.groups import Setting
from experiments.gpu.rows import Rows
from experiments.training.clock import settle
from replication.rollout.builtin.cache import RowCache
from replication.rollout.masks import attention_mask
from replication.rollout.sampling import draw, tempered_logp
from replication.rollout.uncertainty import token_entropy, token_surprisal

STEPS = 4  # passes whose log-probabilities are compared


class Static:
    """A pass that feeds itself: all tensors stay where they are, and rows read as far as the bucket reaches.

    Args:
        model: a causal LM.
        rows: at once.
        bucket: entries of a row that a pass reads.
    """

    def __init__(self, model: torch.nn.Module, rows: int, bucket: int):
        self.model, self.rows, self.bucket = model, rows, bucket
        self.cache = RowCache(model.config, rows, bucket)
        self.cache.begin = self.cache.begin.to(place())
        self.ids, self.at = (torch.zeros(rows, 1, dtype=torch.long, device=place()) for _ in range(2))
        self.uniform = torch.rand(rows, device=place(), dtype=torch.float64)
        self.begin()
        self()
        for held in self.cache.tensors():
            held.normal_()

    def begin(self) -> None:
        """Set the rows back, near the bucket's end."""
        self.ids.fill_(7)
        self.at.fill_(self.bucket - 16)

    def __call__(self) -> Tensor:
        """[r] log-probabilities of the tokens drawn; the entropies are taken, too."""
        self.cache.places, self.cache.live = (self.cache.begin + self.at).flatten(), self.bucket
        mask = attention_mask(self.model.config, self.at, self.bucket)
        logits = self.model(
            input_ids=self.ids,
            position_ids=self.at,
            attention_mask=mask,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        scored = tempered_logp(logits, 1.0)
        token = draw(scored, self.uniform)
        token_entropy(scored)
        self.ids.copy_(token[:, None])
        self.at.add_(1).clamp_(max=self.bucket - 1)
        return -token_surprisal(scored, token)


def captured(work: Static) -> tuple[Callable[[], None], Tensor]:
    """A graph of the pass, and where it puts the log-probabilities."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = work()
    return graph.replay, out


def static_pass(rows: Rows, setting: Setting) -> None:
    """The pass of Qwen3-4B, eager and as a graph; wanted: six tenths of the copy's bandwidth."""
    model, speed = made("4B", setting), bandwidth(rows)
    for count, bucket in [(2, 32)] if setting.tiny else [(32, 4352), (64, 4352), (32, 8192)]:
        free()
        name = f"{count} rows, bucket {bucket:,}"
        with torch.inference_mode(), cudnn(False):
            work = Static(model, count, bucket)
            work.begin()
            eager = torch.stack([work().clone() for _ in range(STEPS)])
            rows.add(f"{name}: eager", milliseconds(work, 8), "ms")
            if on_cuda():
                replay, out = captured(work)
                work.begin()
                replayed = []
                for _ in range(STEPS):
                    replay()
                    replayed.append(out.clone())
                settle()
                spent, least = milliseconds(replay, 20), least_milliseconds(model, count, bucket, speed)
                note = f"at the copy's bandwidth {least:.2f}; {1e3 * count / spent:,.0f} tokens/s"
                rows.add(f"{name}: CUDA graph", spent, "ms", note=note)
                rows.add(f"{name}: CUDA graph, share of the bandwidth", least / spent, "", ">= 0.6")
                apart = float((eager - torch.stack(replayed)).abs().max())
                rows.add(f"{name}: CUDA graph against eager", apart, "nats", "<= 0.05")
                del replay, out
            work.cache.release()
            del work
