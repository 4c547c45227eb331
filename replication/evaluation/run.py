"""Sample k completions of every problem, plainly and with erasure, and grade them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from replication.config import ErasureConfig, EvaluateConfig, RolloutConfig
from replication.data.sources import Problem
from replication.data.template import prompt_ids
from replication.evaluation.samples import Sample
from replication.grading.pool import Grader
from replication.policy import eos_ids
from replication.rollout.engine import roll_out
from replication.rollout.trace import Rollout
from replication.rollout.uncertainty import segment_uncertainties
from replication.seeds import seed_for


def mean_uncertainty(done: Rollout, erasure: ErasureConfig) -> list[float]:
    """Mean U over each completion's segments, in nats, by the settings of the erasure, whether or not it erased."""
    h = done.entropy if erasure.uncertainty == "entropy" else -done.logp
    weights = erasure.w_base, erasure.w_max, erasure.w_rise
    u: list[float] = segment_uncertainties(h, done.start, done.segments, erasure.window, *weights).nanmean(1).tolist()
    return u


def evaluate_benchmark(
    model: Any,
    tokenizer: Any,
    name: str,
    problems: Sequence[Problem],
    rollout: RolloutConfig,
    erasure: ErasureConfig,
    settings: EvaluateConfig,
    thinking: bool,
    grader: Grader,
    progress: Callable[[int], None],
) -> list[Sample]:
    """Sample and grade one benchmark in every mode of the settings.

    A sample's random numbers are a function of (seed, benchmark, problem, sample): the modes start from the same ones.

    Args:
        progress: called with the number of completions each time some are done.
    """
    k = settings.samples
    rows = max(rollout.max_rows, k)
    sampling = replace(rollout, group_size=k, temperature=settings.temperature, cool_fraction=0.0, max_rows=rows)
    groups = max(1, sampling.max_rows // k)
    ends = eos_ids(model, tokenizer)
    out: list[Sample] = []
    for mode in settings.modes:
        erase = replace(erasure, fraction=1.0 if mode == "erased" else 0.0)
        for first in range(0, len(problems), groups):
            chunk = problems[first : first + groups]
            prompts = [prompt_ids(tokenizer, p.question, thinking) for p in chunk]
            keys = [seed_for(settings.seed, "evaluate", name, p.id, i) for p in chunk for i in range(k)]
            done = roll_out(model, prompts, torch.tensor(keys), sampling, erase, ends, tokenizer.pad_token_id)
            ids = [row[:end] for row, end in zip(done.tokens.tolist(), done.length.tolist(), strict=True)]
            texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
            graded = grader.grade_many(
                [(p.final_answer, texts[i * k + j]) for i, p in enumerate(chunk) for j in range(k)]
            )
            erased, u = done.erased_tokens, mean_uncertainty(done, erasure)
            for row, item in enumerate(graded):
                out.append(
                    Sample(
                        benchmark=name,
                        mode=mode,
                        problem=chunk[row // k].id,
                        sample=row % k,
                        verdict=item.verdict.value,
                        answer=item.answer,
                        tokens=int(done.length[row]),
                        erased_tokens=int(erased[row]),
                        erasures=int(done.erasures[row].sum()),
                        uncertainty=round(u[row], 4),
                        ended=bool(done.ended[row]),
                        text=texts[row],
                    )
                )
            progress(len(graded))
    return out
