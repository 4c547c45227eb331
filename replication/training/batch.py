"""A rollout as the training sees it: full sequences, advantages and loss weights, cut into micro-batches.

The rows are the R completions and, where erased attempts are trained on, one more row for each: the prompt, the kept
tokens before the attempt, and the attempt, of which only the last is scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from replication.rollout.trace import Rollout


@dataclass(frozen=True)
class Widths:
    """Widths of passes, in tokens: multiples of a number, as far as the model has positions for them."""

    multiple: int = 1
    most: int = 2**31

    def of(self, count: int) -> int:
        """The least one that holds so many tokens."""
        return max(count, min(-(-count // self.multiple) * self.multiple, self.most))


@dataclass
class Sequences:
    """r prompts with what followed them; S positions in all, T scored tokens at most."""

    ids: Tensor  # [r, S] prompt, completion, padding on the right
    size: Tensor  # [r] positions that are no padding
    at: Tensor  # [r, T] position of each scored token
    tokens: Tensor  # [r, T] the scored tokens: of the completion, or of the erased attempt
    token_mask: Tensor  # [r, T] boolean, no padding
    known: Tensor  # [r, T] boolean, a scored token whose log-probability when sampled is finite; the others are dropped
    old_logp: Tensor  # [r, T] when sampled, in nats; 0 where it was not finite
    owner: Tensor  # [r] the completion that the row is, or whose attempt it is
    erased: Tensor  # [r] boolean, an erased attempt
    widths: Widths  # which S may have

    def rows(self, index: Tensor) -> Sequences:
        """The indexed rows, without the columns that only others need."""
        width = self.widths.of(int(self.size[index].max()))
        longest = max(1, int(self.token_mask[index].sum(1).max()))
        at = self.at[index, :longest].clamp(max=width - 1)  # padding may point anywhere inside
        cut = index, slice(longest)
        return Sequences(
            ids=self.ids[index, :width],
            size=self.size[index],
            at=at,
            tokens=self.tokens[cut],
            token_mask=self.token_mask[cut],
            known=self.known[cut],
            old_logp=self.old_logp[cut],
            owner=self.owner[index],
            erased=self.erased[index],
            widths=self.widths,
        )


def sequences(rollout: Rollout, pad_id: int, attempts: bool = False, widths: Widths = Widths()) -> Sequences:
    """Put prompts and completions together, id for id as they were sampled.

    Args:
        rollout: R completions.
        pad_id: id of the padding.
        attempts: whether erased attempts get rows of their own, after the completions. What was kept before an attempt
            was never erased later, so that it is the start of the completion.
        widths: which the rows may have.
    """
    device, g = rollout.tokens.device, rollout.group_size
    kept, kept_logp, lengths = rollout.tokens.tolist(), rollout.logp.tolist(), rollout.length.tolist()
    rows = [(row, 0, kept[row][:end], kept_logp[row][:end]) for row, end in enumerate(lengths)]
    if attempts:
        rows += [(a.row, a.start, a.tokens, a.logp) for a in rollout.attempts]
    before = [[*rollout.prompts[row // g], *kept[row][:start]] for row, start, _, _ in rows]
    size = [len(b) + len(tokens) for b, (_, _, tokens, _) in zip(before, rows, strict=True)]
    width, longest = widths.of(max(size)), max(1, *(len(tokens) for _, _, tokens, _ in rows))

    def padded(lines: list[list[Any]], to: int, value: float, dtype: torch.dtype) -> Tensor:
        return torch.tensor([[*line, *[value] * (to - len(line))] for line in lines], dtype=dtype, device=device)

    ids = padded([b + tokens for b, (_, _, tokens, _) in zip(before, rows, strict=True)], width, pad_id, torch.long)
    t = torch.arange(longest, device=device)
    scored = torch.tensor([len(tokens) for _, _, tokens, _ in rows], device=device)
    owner = torch.tensor([row for row, _, _, _ in rows], device=device)
    token_mask = t < scored[:, None]
    old_logp = padded([logp for _, _, _, logp in rows], longest, 0.0, torch.float32)
    return Sequences(
        ids=ids,
        size=torch.tensor(size, device=device),
        at=(torch.tensor([len(b) for b in before], device=device)[:, None] + t).clamp(max=width - 1),
        tokens=padded([tokens for _, _, tokens, _ in rows], longest, pad_id, torch.long),
        token_mask=token_mask,
        known=token_mask & old_logp.isfinite(),
        old_logp=old_logp.masked_fill(~old_logp.isfinite(), 0.0),
        owner=owner,
        erased=torch.arange(len(rows), device=device) >= len(lengths),
        widths=widths,
    )


@dataclass
class MicroBatch:
    """What one forward and backward pass needs; the loss knows nothing of where advantages came from."""

    sequences: Sequences
    advantage: Tensor  # [r, T]
    weight: Tensor  # [r, T] of each token's loss in the minibatch
    reference_logp: Tensor | None  # [r, T], where the objective has a KL term
    trainer_logp: Tensor | None = None  # [r, T] before the step's updates, where a correction cannot do without


def micro_batches(
    rows: Tensor,
    size: int,
    seqs: Sequences,
    advantage: Tensor,
    weight: Tensor,
    reference: Tensor | None,
    trainer: Tensor | None = None,
) -> Iterator[MicroBatch]:
    """Cut the rows of a minibatch into micro-batches of at most `size`."""
    for index in rows.split(size):
        part = seqs.rows(index)
        t = part.tokens.shape[1]
        given = (None if logp is None else logp[index, :t] for logp in (reference, trainer))
        yield MicroBatch(part, advantage[index, :t], weight[index, :t], *given)


def idle(batch: MicroBatch) -> MicroBatch:
    """One row of the micro-batch that weighs nothing: processes must make the same number of passes."""
    part = batch.sequences.rows(torch.zeros(1, dtype=torch.long, device=batch.weight.device))
    t = part.tokens.shape[1]
    part.token_mask = part.known = torch.zeros_like(part.token_mask)
    given = (None if logp is None else logp[:1, :t] for logp in (batch.reference_logp, batch.trainer_logp))
    return MicroBatch(part, batch.advantage[:1, :t], torch.zeros_like(batch.weight[:1, :t]), *given)
