"""A rollout as people read it: members, their segments, and every attempt at each with its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from replication.rollout.trace import Rollout


@dataclass
class Token:
    """One sampled token."""

    text: str
    uncertainty: float  # H_t by the reading of the settings, in nats
    logp: float  # when it was sampled, in nats


@dataclass
class Try:
    """One attempt at a segment."""

    tokens: list[Token]
    u: float  # U_n in nats; nan where the member was rolled out plainly
    theta: float  # Theta_n(e) that it was held against, in nats; nan likewise
    erased: bool


def completion(done: Rollout, row: int, tokenizer: Any) -> str:
    """Text of one completion, without special tokens."""
    return str(tokenizer.decode(done.tokens[row, : int(done.length[row])].tolist(), skip_special_tokens=True))


def segments(done: Rollout, row: int, tokenizer: Any, uncertainty: str) -> list[list[Try]]:
    """The attempts at each segment of one completion, in the order they were made; the last one was accepted.

    Args:
        done: a finished rollout.
        row: of the completion.
        tokenizer: turns ids into texts, one by one.
        uncertainty: what H_t is, a name of `uncertainty.MEASURES`.
    """

    def tokens(ids: Sequence[int], h: Sequence[float], logp: Sequence[float]) -> list[Token]:
        texts = [tokenizer.decode([i]) for i in ids]
        return [Token(*values) for values in zip(texts, h, logp, strict=True)]

    found: list[list[Try]] = [[] for _ in range(int(done.segments[row]))]
    for a in done.attempts:
        if a.row == row:
            found[a.segment].append(
                Try(tokens(a.tokens, a.uncertainty(uncertainty), a.logp), a.u, a.theta, erased=True)
            )
    for n, tries in enumerate(found):
        span = slice(int(done.start[row, n]), int(done.start[row, n + 1]))
        kept = tokens(
            *(column[row, span].tolist() for column in (done.tokens, done.uncertainty(uncertainty), done.logp))
        )
        tries.append(Try(kept, float(done.u[row, n]), float(done.theta[row, n]), erased=False))
    return found
