"""Steps of TRL's GRPOTrainer. Run by the Python of TRL's environment, from step.py:

    python -m experiments.training.trl_step setting.json -> a line of JSON: seconds by step and part, tokens, losses

A step is one generation and all optimizer steps on it, as ours is. Whatever TRL does beside that is off: reports,
checkpoints, gradient checkpointing, bfloat16.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from experiments.training.clock import Clock, settle


class Ticks(TrainerCallback):
    """Ticks after the last optimizer step on a generation."""

    def __init__(self, clock: Clock, updates: int):
        self.clock, self.updates = clock, updates

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.updates == 0:
            self.clock.tick()


def parity(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """The trivial reward, which ours has too."""
    return [float(sum(ids) % 2) for ids in completion_ids]


def arguments(s: dict[str, Any], folder: str) -> GRPOConfig:
    """GRPO on `updates` minibatches of a generation, each accumulated from micro-batches of `micro` completions."""
    minibatch = s["prompts_a_step"] * s["group"] // s["updates"]
    return GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=s["micro"],
        gradient_accumulation_steps=minibatch // s["micro"],
        steps_per_generation=s["updates"] * minibatch // s["micro"],
        num_generations=s["group"],
        num_iterations=1,
        max_completion_length=s["cap"],
        max_steps=s["steps"] * s["updates"],
        temperature=1.0,
        loss_type="grpo",
        beta=0.0,
        learning_rate=s["lr"],
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=s["grad_clip"],
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        use_vllm=False,
        report_to=[],
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=0,
    )


def run(s: dict[str, Any]) -> dict[str, Any]:
    """Train, and say what was spent and done."""
    torch.set_num_threads(s["threads"])
    policy = AutoModelForCausalLM.from_pretrained(s["model"], dtype=torch.float32, attn_implementation="sdpa")
    tokenizer = AutoTokenizer.from_pretrained(s["model"])
    clock, prompts, tokens, losses = Clock(settle), set(), [], []
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=policy,
            processing_class=tokenizer,
            reward_funcs=parity,
            args=arguments(s, folder),
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in s["prompts"]]),
            callbacks=[Ticks(clock, s["updates"])],
        )
        # no token ends a completion, so that each has the longest length
        trainer.eos_token_ids, trainer.generation_config.eos_token_id = [-1], -1
        generate, loss = trainer._generate_single_turn, trainer._compute_loss

        def generated(prompt_ids: list[list[int]], *rest: Any) -> Any:
            done = generate(prompt_ids, *rest)
            prompts.update(map(tuple, prompt_ids))
            tokens.append(sum(map(len, done[0])))
            return done

        def lost(*args: Any) -> Any:
            value = loss(*args)
            losses.append(value.item())
            return value

        trainer._generate_single_turn = clock.wrap("rollout", generated)
        trainer._calculate_rewards = clock.wrap("grading", trainer._calculate_rewards)
        # scores the completions once more where there are several updates on them
        trainer._generate_and_score_completions = clock.wrap("scoring", trainer._generate_and_score_completions)
        trainer._compute_loss = clock.wrap("forward", lost)
        trainer.accelerator.backward = clock.wrap("backward", trainer.accelerator.backward)
        torch.optim.AdamW.step = clock.wrap("optimizer", torch.optim.AdamW.step)
        trainer.train()
        update = trainer.args.gradient_accumulation_steps
    return {
        "steps": clock.steps,
        "tokens": tokens,
        "prompts": sorted(map(list, prompts)),
        "losses": [sum(losses[i : i + update]) for i in range(0, len(losses), update)],
        "cache": trainer.generation_config.use_cache,
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    print(json.dumps(run(json.loads(Path(sys.argv[1]).read_text()))))
