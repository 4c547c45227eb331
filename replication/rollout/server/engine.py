"""Rollouts on servers elsewhere: a segment is a request, an erased one is the same request with another seed.

What a row has kept is the request's prompt, as ids. A row stays at its server, whose prefix cache then has its keys
and values.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from replication.config import RolloutConfig
from replication.errors import UserError
from replication.rollout.masks import embedded
from replication.rollout.pieces import Segment, check_temperatures, piece_of, tell
from replication.rollout.protocol import Counts, Piece, Watcher
from replication.rollout.server.client import TRIES, Gone, Line, Server
from replication.rollout.server.probe import PLAIN, Found, choice_of, look

PATIENCE = 0.02  # seconds until another session of the same process has its turn
NOTHING = -9999.0  # what vLLM writes for the logarithm of 0, which JSON does not have


class ServerEngine:
    """An `Engine` whose model is served by others, by one or several.

    Args:
        model: the configuration of what they serve; none of its weights is read.
        tokenizer: what makes its prompts.
        rollout: the settings, the servers' addresses among them.

    Raises:
        UserError: a server that cannot be reached, or does not give what a rollout needs.
    """

    measures = ("surprisal",)
    device = torch.device("cpu")

    def __init__(self, model: Any, tokenizer: Any, rollout: RolloutConfig):
        self.ids = embedded(model)
        self.found = [look(Server(address), model, tokenizer, rollout) for address in rollout.addresses]
        self.reads = min(found.room for found in self.found)
        self.lock = threading.Lock()
        self.threads = ThreadPoolExecutor(rollout.max_rows, "segment")  # requests in flight, of all its sessions

    def sync(self) -> None:
        raise UserError("a server takes no new weights: take --rollout.engine vllm or torch")

    def rest(self) -> None:
        pass  # nothing is held here

    def close(self) -> None:
        self.threads.shutdown(cancel_futures=True)

    def room(self, rollout: RolloutConfig) -> int:
        check_temperatures(rollout)
        for found in self.found:
            found.check(rollout)
        longest = rollout.segments * rollout.segment_tokens
        if self.reads <= longest:
            raise UserError(
                f"{self.found[0].server.address} reads {self.reads} tokens at most, and a completion may have "
                f"{rollout.segments} x {rollout.segment_tokens}: lower rollout.segments or segment_tokens, or start it "
                "with a greater --max-model-len"
            )
        return self.reads - longest

    def open(
        self,
        prompts: Sequence[Sequence[int]],
        rollout: RolloutConfig,
        ends: Sequence[int],
        measures: Sequence[str],
        watcher: Watcher | None = None,
    ) -> ServerSession:
        return ServerSession(self, prompts, rollout, ends, watcher)

    def at(self, number: int) -> Found:
        """The server of that number, or one that is left in its place.

        Raises:
            UserError: none is left.
        """
        home = self.found[number % len(self.found)]
        left = [found for found in self.found if found.server.gone is None]
        if not left:
            why = "; ".join(f"{found.server.address}: {found.server.gone}" for found in self.found)
            raise UserError(f"no server is left ({why}): start it, and run the same command again")
        return home if home in left else left[number % len(left)]

    def lose(self, found: Found, why: str) -> None:
        """A server does not answer any more."""
        with self.lock:
            if found.server.gone is not None:
                return
            found.server.gone = why
            left = sum(other.server.gone is None for other in self.found)
        if left:
            line = f"{found.server.address} is gone ({why}): its completions go on at the other"
            tqdm.write(line if left == 1 else f"{line} {left}", file=sys.stderr)


class ServerSession:
    """A `Session`: the requests of one rollout. Of all sessions of an engine `rollout.max_rows` are in flight."""

    def __init__(
        self,
        engine: ServerEngine,
        prompts: Sequence[Sequence[int]],
        rollout: RolloutConfig,
        ends: Sequence[int],
        watcher: Watcher | None,
    ):
        self.owner, self.rollout, self.watcher = engine, rollout, watcher
        self.ends = [end for end in ends if 0 <= end < engine.ids]  # vLLM refuses others
        g = rollout.group_size
        self.text = [list(prompt) for prompt in prompts for _ in range(g)]  # of each row, the prompt included
        self.prompt_size = [len(prompt) for prompt in prompts for _ in range(g)]
        first_cool = g - int(rollout.cool_fraction * g + 0.5)
        self.cool = [row % g >= first_cool for row in range(len(self.text))]
        together = g if len(prompts) >= len(engine.found) else 1  # rows that share a prompt share its cache
        self.home = [row // together for row in range(len(self.text))]
        self.line = Line(TRIES)
        self.futures: set[Future[Segment]] = set()
        self.whole: SimpleQueue[Future[Segment]] = SimpleQueue()
        self.waiting = self.sampled = 0

    def ask(self, rows: Tensor, kept: Tensor, seed: Tensor) -> None:
        settings = self.rollout
        for row, size, number in zip(rows.tolist(), kept.tolist(), seed.tolist(), strict=True):
            text = self.text[row] = self.text[row][: self.prompt_size[row] + size]
            body = {
                **PLAIN,
                "prompt": list(text),
                "max_tokens": settings.segment_tokens,
                "temperature": settings.cool_temperature if self.cool[row] else settings.temperature,
                "top_k": settings.top_k,
                "top_p": settings.top_p,
                "seed": number % 2**63,
                "stop_token_ids": self.ends,
                "logprobs": 0,  # the sampled token's alone
            }
            self.waiting += 1
            future = self.owner.threads.submit(self._segment, row, body)
            self.futures.add(future)
            future.add_done_callback(self.whole.put)

    def next(self) -> Piece | None:
        if not self.waiting:
            raise RuntimeError("no segment was asked for")
        try:
            done = [self.whole.get(timeout=PATIENCE)]
        except Empty:
            return None
        while not self.whole.empty():
            done.append(self.whole.get())
        segments = [future.result() for future in done]
        self.futures.difference_update(done)
        self.waiting -= len(segments)
        for segment in segments:
            self.text[segment.row] += segment.tokens
            self.sampled += len(segment.tokens)
        tell(self.watcher, segments)
        return piece_of(segments, self.rollout.segment_tokens)

    def drop(self, rows: Tensor) -> None:
        pass  # nothing is held of a row that is not asked

    def close(self) -> Counts:
        self.line.close()
        for future in self.futures:
            future.cancel()
        wait(self.futures)
        return Counts(0, self.sampled)

    def _segment(self, row: int, body: dict[str, Any]) -> Segment:
        """Ask until some server has brought the row's segment whole; in a thread of its own."""
        given_up = 0
        while True:
            found = self.owner.at(self.home[row])
            try:
                answer = found.server.ask("completions", {"model": found.name, **body}, self.line)
                if (segment := self._read(row, found.server, answer)) is not None:
                    return segment
                given_up += 1
                if self.line.cut.is_set() or given_up == TRIES:
                    raise Gone("it gives up what it is asked for")
            except Gone as error:
                if self.line.cut.is_set():
                    raise
                self.owner.lose(found, str(error))

    def _read(self, row: int, server: Server, answer: dict[str, Any]) -> Segment | None:
        """A row's segment; None where the server gave the request up."""
        choice = choice_of(server, answer)
        tokens, why, most = choice["token_ids"], choice.get("finish_reason"), self.rollout.segment_tokens
        if why == "abort":
            return None
        try:
            logp = [math.nan if p is None else float(p) for p in choice["logprobs"]["token_logprobs"]]
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{server.address} answered without log-probabilities: name another server") from None
        good = all(isinstance(token, int) and 0 <= token < self.owner.ids for token in tokens)
        ended = bool(tokens) and tokens[-1] in self.ends
        if not good or len(logp) != len(tokens) or not (ended or len(tokens) == most) or len(tokens) > most:
            raise UserError(
                f"{server.address} ended a segment after {len(tokens)} of {most} tokens ({why}), not at an end of "
                "--model's: start it with --generation-config vllm, and with the model's own configuration"
            )
        return Segment(row, tokens, [-math.inf if p <= NOTHING else p for p in logp], {}, ended)
