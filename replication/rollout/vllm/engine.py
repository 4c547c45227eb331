"""Rollouts on vLLM, in this process: a segment is a request, an erased one is the same request again.

What a row has kept is the request's prompt. vLLM's prefix cache holds its keys and values, but for the last block. The
sampled tokens' log-probabilities and measures are taken from the logits on the way to vLLM's sampler (`measuring`).
"""

from __future__ import annotations

import copy
import gc
import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from replication.config import RolloutConfig
from replication.errors import UserError, told_as
from replication.rollout.masks import embedded, text_config
from replication.rollout.pieces import Segment, check_temperatures, piece_of, tell
from replication.rollout.protocol import Counts, Piece, Watcher
from replication.rollout.uncertainty import MEASURES
from replication.rollout.vllm.libraries import RandomNumbers, load_vllm, threads_as_they_are
from replication.rollout.vllm.weights import push

BLOCK = 32  # tokens of a block of the cache on a CPU, which takes multiples of 32; on a GPU vLLM's own, 16
Finished = tuple[Any, list[float], dict[str, list[float]]]  # a request, its tokens' log-probabilities and measures
MANY = 10**9  # more than the rows of a rollout
MEMORY = 2**30  # bytes of keys and values on a CPU, at most


class VLLMEngine:
    """An `Engine` that keeps a vLLM beside the model, with a copy of its weights.

    It starts at its first rollout or its first `sync`, since its construction waits for all processes.

    Args:
        model: a transformers causal LM, whose weights are copied.
        longest: tokens of the longest prompt with its longest completion.
        rows: requests at a time, at most.
        share: of a GPU's memory.
        reproducible: a seed a request, so that a completion does not depend on its company.
    """

    measures = MEASURES

    def __init__(self, model: Any, longest: int, rows: int, share: float = 0.3, reproducible: bool = True):
        self.model, self.longest, self.rows = model, longest, rows
        self.share, self.reproducible = share, reproducible
        self.at_once = max(8192, longest) if torch.cuda.is_available() else rows * longest  # tokens a pass, at most
        self.ids = embedded(model)
        self.llm: Any = None
        self.measuring: Any = None  # the `Measuring` of it
        self.random = RandomNumbers()
        self.asleep = False
        self.asked: dict[str, VLLMSession] = {}  # request -> whose it is
        self.opened = self.numbered = self.passes = 0  # sessions, requests, and passes so far

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    @property
    def reads(self) -> int:
        """Tokens that the model reads at most."""
        return getattr(text_config(self.model), "max_position_embeddings", None) or 2**31

    def room(self, rollout: RolloutConfig) -> int:
        check_temperatures(rollout)
        return min(self.reads, self.longest) - rollout.segments * rollout.segment_tokens

    @torch.inference_mode(False)  # weights that are made in that mode could not be written outside it
    def sync(self) -> None:
        """Copy the model's weights, and forget what was cached under the old ones."""
        if self.llm is None:
            self._start()
        with saying(self.model):
            if self.asleep:
                self.llm.wake_up(tags=["weights"])
            push(self.model, self.llm)
            if self.asleep:
                self.llm.wake_up(tags=["kv_cache"])
                self.asleep = False

    def rest(self) -> None:
        """On a GPU give back what weights and cache take; the weights are dropped, since `sync` brings new ones."""
        if self.llm is not None and torch.cuda.is_available() and not self.asleep:
            self._forget()
            with saying(self.model):
                self.llm.sleep(level=2)
            self.asleep = True

    def close(self) -> None:
        """Give back all that it holds; the next rollout starts it anew."""
        if self.llm is not None:
            executor = self.llm.llm_engine.engine_core.engine_core.model_executor
            executor.shutdown()  # the whole engine's would end torch.distributed, which others use
            self._forget()
            self.llm, self.asleep = None, False
            gc.unfreeze()  # vLLM hides its parts from the collector
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def open(
        self,
        prompts: Sequence[Sequence[int]],
        rollout: RolloutConfig,
        ends: Sequence[int],
        measures: Sequence[str],
        watcher: Watcher | None = None,
    ) -> VLLMSession:
        if self.llm is None:
            self.sync()
        return VLLMSession(self, prompts, rollout, ends, measures, watcher)

    def _forget(self) -> None:
        """The last distributions are not needed any more: on a GPU 156 MB of 256 rows and 152,000 words."""
        if self.measuring is not None:
            self.measuring.logp = None

    def step(self) -> None:
        """One pass; what is whole after it goes to those who asked for it."""
        with self.random.own():
            for request in self.llm.llm_engine.step():
                if request.finished:
                    name, out = request.request_id, request.outputs[0]
                    if out.finish_reason not in ("stop", "length") or not out.token_ids:
                        raise RuntimeError(f"a request ended before its segment's end: {out.finish_reason}")
                    self.asked.pop(name).whole.append((request, *self.measuring.take(name, out.token_ids)))
        self.passes += 1

    def _start(self) -> None:
        if self.longest > self.reads:
            raise UserError(
                f"the longest prompt and completion have {self.longest} tokens, and the model reads {self.reads}: "
                "lower rollout.segments or segment_tokens"
            )
        cuda = torch.cuda.is_available()
        settings: dict[str, Any] = (
            {"gpu_memory_utilization": self.share, "enable_sleep_mode": True}
            if cuda
            else {"enforce_eager": True, "block_size": BLOCK, "kv_cache_memory_bytes": MEMORY}
        )
        with self.random.own(), threads_as_they_are(), saying(self.model):
            vllm = load_vllm()
            from replication.rollout.vllm.measuring import Measuring

            if cuda and torch.distributed.is_initialized():  # else every process would take the first GPU
                settings["distributed_executor_backend"] = "external_launcher"
                for name, value in (
                    ("RANK", torch.distributed.get_rank()),
                    ("LOCAL_RANK", torch.cuda.current_device()),
                ):
                    os.environ.setdefault(name, str(value))  # which Lightning's own launcher of DDP leaves out
            self.llm = vllm.LLM(
                model=str(described(self.model)),
                runner="generate",
                load_format="dummy",  # the weights are pushed
                skip_tokenizer_init=True,
                dtype=str(self.model.dtype).removeprefix("torch."),
                max_model_len=self.longest,
                max_num_seqs=self.rows,
                max_num_batched_tokens=self.at_once,
                enable_prefix_caching=True,
                scheduling_policy="priority",
                async_scheduling=False,  # a step's logits then belong to the tokens that it returns
                logits_processors=[Measuring],
                disable_log_stats=True,
                **settings,
            )
            self.measuring = Measuring.made


def described(model: Any) -> Path:
    """A folder with the model's configuration, of the same name for the same one: vLLM finds again what it compiled."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    text = config.to_json_string(use_diff=False)
    folder = Path(tempfile.gettempdir(), f"replication-{os.getuid()}", hashlib.sha256(text.encode()).hexdigest()[:16])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:  # other processes may write the same
        config.save_pretrained(draft)
        for file in Path(draft).iterdir():
            file.replace(folder / file.name)
    return folder


def saying(model: Any) -> AbstractContextManager[None]:
    """Turn what vLLM raises into one line."""
    advice = "run the same command again, or with --rollout.engine torch"
    return told_as(f"vLLM failed with {model.config.model_type}", advice)


class VLLMSession:
    """A `Session`: the requests of one rollout.

    Earlier rollouts come first, and in each its earlier rows. So where vLLM has no room for all, rows that are begun go
    on before others, while their prefixes are still in the cache.
    """

    def __init__(
        self,
        engine: VLLMEngine,
        prompts: Sequence[Sequence[int]],
        rollout: RolloutConfig,
        ends: Sequence[int],
        measures: Sequence[str],
        watcher: Watcher | None,
    ):
        self.owner, self.core, self.measuring = engine, engine.llm.llm_engine, engine.measuring
        self.rollout, self.watcher = rollout, watcher
        self.ends = [end for end in ends if 0 <= end < engine.ids]  # vLLM refuses others
        g = rollout.group_size
        self.text = [list(prompt) for prompt in prompts for _ in range(g)]  # of each row, the prompt included
        self.prompt_size = [len(prompt) for prompt in prompts for _ in range(g)]
        first_cool = g - int(rollout.cool_fraction * g + 0.5)
        self.cool = [row % g >= first_cool for row in range(len(self.text))]
        self.sampled, self.before = 0, engine.passes
        self.asked: dict[str, int] = {}  # request -> row
        self.whole: list[Finished] = []
        self.begun = False
        self.priority = engine.opened * MANY
        engine.opened += 1
        self.measures = list(measures)

    def ask(self, rows: Tensor, kept: Tensor, seed: Tensor) -> None:
        with saying(self.owner.model):
            self._ask(rows, kept, seed)

    def _ask(self, rows: Tensor, kept: Tensor, seed: Tensor) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        settings, engine = self.rollout, self.owner
        if not self.begun:  # what seeds of requests do not decide is a function of the first row's
            self.begun = True
            with engine.random.own():
                torch.manual_seed(int(seed[0]) % 2**63)
        for row, size, number in zip(rows.tolist(), kept.tolist(), seed.tolist(), strict=True):
            text = self.text[row] = self.text[row][: self.prompt_size[row] + size]
            name = f"{row}-{engine.numbered}"
            engine.numbered += 1
            temperature = settings.cool_temperature if self.cool[row] else settings.temperature
            params = SamplingParams(
                temperature=temperature,
                top_k=settings.top_k,
                top_p=settings.top_p,
                max_tokens=settings.segment_tokens,
                seed=number % 2**63 if engine.reproducible else None,
                stop_token_ids=self.ends,
                ignore_eos=True,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
                extra_args={"name": name, "factor": temperature / settings.temperature},
            )
            self.core.add_request(name, {"prompt_token_ids": list(text)}, params, priority=self.priority + row)
            self.asked[name], engine.asked[name] = row, self

    def next(self) -> Piece | None:
        with saying(self.owner.model):
            if not self.asked:
                raise RuntimeError("no segment was asked for")
            if not self.whole:
                self.owner.step()
            finished, self.whole = self.whole, []
            return self._piece(finished) if finished else None

    def drop(self, rows: Tensor) -> None:
        pass  # nothing is held of a row that is not asked

    def close(self) -> Counts:
        if self.asked:
            self.core.abort_request(list(self.asked))
        for name in self.asked:
            self.owner.asked.pop(name, None)
            self.measuring.forget(name)
        self.asked.clear()
        return Counts(self.owner.passes - self.before, self.sampled)

    def _piece(self, finished: Sequence[Finished]) -> Piece:
        segments = []
        for request, logp, measured in finished:
            ids, row = list(request.outputs[0].token_ids), self.asked.pop(request.request_id)
            wanted = {name: measured[name] for name in self.measures}
            segments.append(Segment(row, ids, logp, wanted, ids[-1] in self.ends))
            self.text[row] += ids
            self.sampled += len(ids)
        tell(self.watcher, segments)
        return piece_of(segments, self.rollout.segment_tokens)
