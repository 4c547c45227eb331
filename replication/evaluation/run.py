"""Sample k completions of every problem in every mode, and grade them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from replication.config import ErasureConfig, EvaluateConfig, RolloutConfig
from replication.data.sources import Problem
from replication.evaluation.anatomy import attempts_of
from replication.evaluation.samples import Sample
from replication.grading.pool import Grader
from replication.rollout.policy import Policy
from replication.rollout.trace import Rollout
from replication.rollout.uncertainty import segment_uncertainties
from replication.seeds import seed_for


def uncertainties(done: Rollout, erasure: ErasureConfig) -> torch.Tensor:
    """[R, N] U of the kept segments, in nats, by the settings of the erasure, whether or not it erased."""
    weights = erasure.w_base, erasure.w_max, erasure.w_rise
    return segment_uncertainties(
        done.uncertainty(erasure.uncertainty), done.start, done.segments, erasure.window, *weights
    )


def mean_uncertainty(u: torch.Tensor) -> list[float]:
    """Mean of each completion's [R, N] uncertainties."""
    mean: list[float] = u.nanmean(1).tolist()
    return mean


@dataclass(frozen=True)
class Chunk:
    """Problems of a benchmark that are sampled together in one mode."""

    benchmark: str
    mode: str
    problems: Sequence[Problem]

    @property
    def cell(self) -> tuple[str, str]:
        """Benchmark and mode."""
        return self.benchmark, self.mode


def chunks(
    benchmarks: Mapping[str, Sequence[Problem]], rollout: RolloutConfig, settings: EvaluateConfig
) -> list[Chunk]:
    """The evaluation in the order it is run. Little is to stand idle while a chunk's last completions finish: the
    embedded engine samples one chunk at a time, of four times `rollout.max_rows` completions; on others the next chunk
    has begun by then."""
    rows = rollout.max_rows * (4 if rollout.engine == "torch" else 1)
    size = max(1, rows // settings.samples)
    return [
        Chunk(name, mode, problems[first : first + size])
        for name, problems in benchmarks.items()
        for mode in settings.modes
        for first in range(0, len(problems), size)
    ]


def sampling(rollout: RolloutConfig, settings: EvaluateConfig, mode: str) -> RolloutConfig:
    """How the completions of a mode are sampled."""
    return replace(
        rollout,
        group_size=settings.samples,
        temperature=settings.sampling(mode)[1],
        cool_fraction=0.0,
        max_rows=max(rollout.max_rows, settings.samples),
        top_k=settings.top_k,
        top_p=settings.top_p,
    )


def sample_chunk(
    policy: Policy,
    chunk: Chunk,
    rollout: RolloutConfig,
    erasure: ErasureConfig,
    settings: EvaluateConfig,
    grader: Grader,
) -> Generator[None, None, list[Sample]]:
    """Sample and grade one chunk, in steps; a problem's samples stand together, in order.

    A sample's random numbers are a function of (seed, benchmark, problem, sample): the modes start from the same ones.
    """
    k, problems = settings.samples, chunk.problems
    erases, _ = settings.sampling(chunk.mode)
    keys = [seed_for(settings.seed, "evaluate", chunk.benchmark, p.id, i) for p in problems for i in range(k)]
    how = sampling(rollout, settings, chunk.mode)
    done = yield from policy.rolling(problems, keys, how, replace(erasure, fraction=1.0 if erases else 0.0))
    texts = policy.texts(done)
    owner = [p for p in problems for _ in range(k)]
    golds = [p.final_answer for p in owner]
    graded = grader.grade_many(list(zip(golds, texts, strict=True)), [p.tolerance for p in owner])
    erased, u = done.erased_tokens, uncertainties(done, erasure)
    means, attempts = mean_uncertainty(u), attempts_of(done, u)
    return [
        Sample(
            benchmark=chunk.benchmark,
            mode=chunk.mode,
            problem=owner[row].id,
            sample=row % k,
            seed=keys[row],
            gold=golds[row],
            tolerance=owner[row].tolerance,
            verdict=item.verdict.value,
            answer=item.answer,
            tokens=int(done.length[row]),
            erased_tokens=int(erased[row]),
            erasures=int(done.erasures[row].sum()),
            uncertainty=round(means[row], 4),
            attempts=attempts[row],
            ended=bool(done.ended[row]),
            text=texts[row],
            token_ids=done.tokens[row, : int(done.length[row])].tolist(),
        )
        for row, item in enumerate(graded)
    ]
