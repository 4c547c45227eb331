"""`python -m replication.warmstart --model tiny`: teach a small Qwen3 the format of a synthetic task, and its errors.

A pretrained policy needs no warm start: for it the stage records which checkpoint is meant.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from replication.cli import load_run, own_place
from replication.config import Config, WarmstartConfig
from replication.errors import UserError, run_command
from replication.outputs import check_output, output_folder

MARK = "warmstart.json"  # every warm start holds it


def learning_rate(step: int, settings: WarmstartConfig) -> float:
    """The learning rate of a step, as a share of `settings.lr`: up over 20 steps, then constant over the clean steps,
    then down to `lr_end` over the noisy ones."""
    noisy = settings.noisy_steps
    left = (settings.clean_steps + noisy - 1 - step) / noisy if noisy else 1.0
    return min(0.05 + 0.95 * step / 20, 1.0, settings.lr_end + (1 - settings.lr_end) * left)


def warm_start(config: Config) -> tuple[Any, Any, float]:
    """Train the configured architecture on worked solutions of the task: first faultless ones, then noisy ones.

    Returns:
        The model, its tokenizer, and the mean loss of the last 20 steps in nats a token.
    """
    import torch
    from tqdm import tqdm

    from replication.data.tasks import TASKS
    from replication.data.template import prompt_ids
    from replication.policy import small_model, small_tokenizer, use_machine
    from replication.seeds import seed_for

    use_machine(config.policy)
    task, settings = TASKS[config.data.task], config.warmstart
    tokenizer = small_tokenizer()
    model = small_model(config.policy, tokenizer, seed_for(settings.seed, "weights")).train()
    total = settings.clean_steps + settings.noisy_steps
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, settings))
    data = config.data
    used = data.train_problems + data.heldout_problems  # the first ones are trained on by RL and held out
    count = min(4096, task.available(data.steps) - used)
    if count < 1:
        raise UserError(f"{used} problems of {data.steps} steps leave none for the warm start: raise data.steps")
    examples = task.problems(used + count, data.seed, data.steps)[used:]
    losses = []
    for step in (progress := tqdm(range(total), desc="warm start", mininterval=5)):
        rng = random.Random(seed_for(settings.seed, "solutions", step))
        noise = settings.noise if step >= settings.clean_steps else 0.0
        rows = []
        for problem in rng.choices(examples, k=settings.batch):
            prompt = prompt_ids(tokenizer, problem.question)
            answer = tokenizer(task.solution(problem.question, noise, rng)).input_ids
            rows.append((prompt, [*answer, tokenizer.eos_token_id]))
        width = max(len(p) + len(a) for p, a in rows)
        ids = torch.tensor([p + a + [tokenizer.pad_token_id] * (width - len(p) - len(a)) for p, a in rows])
        labels = torch.tensor([[-100] * len(p) + a + [-100] * (width - len(p) - len(a)) for p, a in rows])
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        progress.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    return model.eval(), tokenizer, sum(losses[-20:]) / len(losses[-20:])


def main() -> None:
    run = load_run(
        ["data", "policy", "warmstart"],
        options=[
            ("--out", {"default": None, "type": str | None, "help": "folder, runs/warmstart/<model> if not given"})
        ],
        description="Warm-start a small model on a synthetic task, or record which pretrained one is meant.",
    )
    config, out = run.config, Path(run.options["out"] or own_place(run, f"runs/warmstart/{run.model}"))
    if config.policy.pretrained is None and config.data.task == "files":
        raise UserError(
            f"--model {run.asked} has neither policy.pretrained nor a synthetic data.task: set one in {run.params}"
        )
    check_output(out, MARK)
    if config.policy.pretrained is not None:
        record = {"pretrained": config.policy.pretrained, "revision": config.policy.revision}
        result = f"the policy is {record['pretrained']} at revision {record['revision'] or 'not pinned'}"
        with output_folder(out, MARK) as new:
            (new / MARK).write_text(json.dumps(record, indent=2) + "\n")
    else:
        from replication.policy import save_policy

        model, tokenizer, loss = warm_start(config)
        result = f"warm-started {model.num_parameters():,} parameters, loss {loss:.3f} nats a token"
        with output_folder(out, MARK) as new:
            save_policy(model, tokenizer, new)
            (new / MARK).write_text(json.dumps({"task": config.data.task, "loss": loss}, indent=2) + "\n")
    print(f"{result} -> {out}")


if __name__ == "__main__":
    run_command(main)
