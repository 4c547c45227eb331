"""A rollout as the training sees it: full sequences, advantages and loss weights, cut into micro-batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from replication.rollout.trace import Rollout


@dataclass
class Sequences:
    """r prompts with their completions; S positions in all, T completion tokens at most."""

    ids: Tensor  # [r, S] prompt, completion, padding on the right
    size: Tensor  # [r] positions that are no padding
    at: Tensor  # [r, T] position of each completion token
    tokens: Tensor  # [r, T]
    token_mask: Tensor  # [r, T] boolean, a token of the completion
    old_logp: Tensor  # [r, T] when sampled, in nats

    def rows(self, index: Tensor) -> Sequences:
        """The indexed rows, without the columns that only others need."""
        width = int(self.size[index].max())
        longest = max(1, int(self.token_mask[index].sum(1).max()))
        at = self.at[index, :longest].clamp(max=width - 1)  # padding may point anywhere inside
        completion = (part[index, :longest] for part in (self.tokens, self.token_mask, self.old_logp))
        return Sequences(self.ids[index, :width], self.size[index], at, *completion)


def sequences(rollout: Rollout, pad_id: int) -> Sequences:
    """Put prompts and completions together, id for id as they were sampled."""
    device, g = rollout.tokens.device, rollout.group_size
    longest = max(1, int(rollout.length.max()))
    sizes = torch.tensor([len(p) for p in rollout.prompts for _ in range(g)], device=device)  # [R]
    width = int((sizes + rollout.length).max())
    ids = torch.full((len(sizes), width), pad_id, dtype=torch.long, device=device)
    for row in range(len(sizes)):
        prompt, end = rollout.prompts[row // g], int(rollout.length[row])
        ids[row, : len(prompt)] = torch.tensor(prompt, device=device)
        ids[row, len(prompt) : len(prompt) + end] = rollout.tokens[row, :end]
    at = (sizes[:, None] + torch.arange(longest, device=device)).clamp(max=width - 1)
    cut = slice(None), slice(longest)
    return Sequences(ids, sizes + rollout.length, at, rollout.tokens[cut], rollout.mask[cut], rollout.logp[cut])


@dataclass
class MicroBatch:
    """What one forward and backward pass needs; the loss knows nothing of where advantages came from."""

    sequences: Sequences
    advantage: Tensor  # [r, T]
    weight: Tensor  # [r, T] of each token's loss in the minibatch
    reference_logp: Tensor | None  # [r, T], where the objective has a KL term


def micro_batches(
    rows: Tensor, size: int, seqs: Sequences, advantage: Tensor, weight: Tensor, reference: Tensor | None
) -> Iterator[MicroBatch]:
    """Cut the rows of a minibatch into micro-batches of at most `size`."""
    for index in rows.split(size):
        part = seqs.rows(index)
        t = part.tokens.shape[1]
        yield MicroBatch(
            part, advantage[index, :t], weight[index, :t], None if reference is None else reference[index, :t]
        )
