"""The generation of TRL's GRPOTrainer on a vLLM in its process, beside the vLLM engine without erasing.

    .venv-vllm/bin/python -m pip install --no-deps --target runs/trl trl==1.16.0
    PYTHONPATH=runs/trl .venv-vllm/bin/python -m experiments.decoding.trl_rollout [--smollm2 runs/smollm2]
        -> reports/engines.json

What it should show: at least TRL's samples a second, of the same model, prompts and lengths.

TRL's own code makes its vLLM, pushes the weights, and samples. Three things are set here from outside, since TRL has no
settings for them: plain linear layers, since vLLM's packed ones take no new weights on a CPU and TRL's push fails; the
type of the weights, which vLLM would halve; and, but with --compiled, vLLM without torch.compile, as ours.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from experiments.decoding.engines import COMPANY, PLAIN, PROMPT, Case, cases, prompts_of, rates, sampled, settings_of
from experiments.decoding.engines_table import described, store
from replication.errors import Parser, UserError, run_command
from replication.rollout.vllm.engine import VLLMEngine
from replication.rollout.vllm.libraries import load_vllm

SEGMENT = 32


def trainer_of(case: Case, folder: str, tokens: int, compiled: bool) -> Any:
    """TRL's trainer of the model, with a vLLM that holds its weights; no token ends a completion."""
    load_vllm()  # sets what vLLM must have before TRL imports it
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GiB, as ours
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import GRPOConfig, GRPOTrainer
    from trl.generation import vllm_generation

    case.model.save_pretrained(folder)
    case.tokenizer.save_pretrained(folder)
    args = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=case.rows,
        num_generations=COMPANY,
        max_completion_length=tokens,
        use_cpu=True,
        bf16=False,
        use_vllm=True,
        vllm_mode="colocate",
        vllm_max_model_length=PROMPT + tokens + 1,
        generation_kwargs={"ignore_eos": True},
        report_to=[],
    )
    dtype = str(case.model.dtype).removeprefix("torch.")
    made = partial(vllm_generation.LLM, dtype=dtype, enforce_eager=not compiled)
    with mock.patch.object(vllm_generation, "LLM", made):
        return GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype=case.model.dtype),
            processing_class=case.tokenizer,
            reward_funcs=lambda completion_ids, **_: [0.0] * len(completion_ids),
            args=args,
            train_dataset=Dataset.from_list([{"prompt": "7"}]),
        )


def beside(case: Case, tokens: int, compiled: bool) -> dict[str, Any]:
    """Tokens in a second of the processor, TRL's and ours; all samples have as many."""
    rows = case.rows
    prompts = prompts_of(rows // COMPANY, case.words)
    repeated = [prompt for prompt in prompts for _ in range(COMPANY)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(case, folder, tokens, compiled)
    engine = VLLMEngine(case.model, PROMPT + tokens, rows)
    last: list[tuple[list[int], list[float]]] = []

    def theirs(tokens: int = tokens) -> int:
        trainer.vllm_generation.llm.reset_prefix_cache()
        trainer.vllm_generation.max_completion_length = tokens
        completions, logps = trainer._generate_single_turn(repeated, None, {}, COMPANY)[:2]
        assert [len(ids) for ids in completions] == [len(ids) for ids in logps] == [tokens] * rows
        last.append((list(completions[-1]), logps[-1]))
        return rows * tokens

    def ours(segments: int, seeded: bool, tokens: int = tokens) -> int:
        engine.reproducible = seeded
        return sampled(engine, case, settings_of(rows, tokens, segments, COMPANY), PLAIN, rows).row_steps

    sides = {
        "ours": partial(ours, tokens // SEGMENT, True),
        "ours, one segment": partial(ours, 1, True),
        "ours, one segment, no seeds": partial(ours, 1, False),
        "TRL": theirs,
    }
    found = rates(sides, case.rounds, [partial(side, tokens=4) for side in sides.values()])
    completion, logp = last[-1]
    apart = (forward_logp(case.model, repeated[-1], completion) - torch.tensor(logp)).abs().max()
    assert apart < 1e-3, f"TRL's vLLM has other weights: {apart:.4f} nats from a forward pass"
    return {
        "rows": rows,
        "tokens": tokens,
        "segments": tokens // SEGMENT,
        **found,
    }


@torch.no_grad()
def forward_logp(model: Any, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """[T] log-probabilities of the completion's tokens by a plain forward pass."""
    logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(completion)[:, None]).squeeze(1)


def main() -> None:
    parser = Parser(prog="python -m experiments.decoding.trl_rollout", description=__doc__)
    parser.add_argument("--smollm2", type=Path, default=None, help="folder of experiments/smollm2.py")
    parser.add_argument("--only", default="", help="the model: tiny or SmolLM2-135M")
    parser.add_argument("--compiled", action="store_true", help="TRL's vLLM by torch.compile: minutes more")
    parser.add_argument("--rounds", type=int, help="in place of 3 and 2; more may follow in another run")
    parser.add_argument("--out", type=Path, default=Path("reports/engines.json"), help="file whose parts are replaced")
    args = parser.parse_args()
    if find_spec("trl") is None:
        install = f"{sys.executable} -m pip install --no-deps --target runs/trl trl==1.16.0"
        raise UserError(f"TRL is not there: {install}, and run this with PYTHONPATH=runs/trl")
    torch.set_num_threads(1)
    name = "TRL, compiled" if args.compiled else "TRL"
    for case in cases(args.smollm2):
        if args.only in case.name:
            case = replace(case, rounds=args.rounds or case.rounds)
            part = {**described(case.model), "rounds": case.rounds, **beside(case, 128, args.compiled)}
            print(case.name, store(args.out, case.name, name, part), flush=True)


if __name__ == "__main__":
    run_command(main)
