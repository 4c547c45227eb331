"""The plan of a run beside a real E3RL step on a CPU, part by part: the tiny model, a Qwen3 of 0.11B, SmolLM2-135M.

    python -m experiments.training.plan [--smollm2 runs/smollm2] -> reports/plan.json

What it should show: every part within 15 % of what is measured, but for the tokens and passes, which are assumed.
Settings are the tiny model's own and small ones for the other two, of which the Qwen3 has random weights; every
completion is made to have the longest length, which the plan assumes.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.training import measure
from replication.cli import load_run
from replication.config import Config
from replication.errors import Parser, UserError, run_command
from replication.loading import load_policy
from replication.planning import memory, seconds
from replication.planning.plan import Plan
from replication.planning.sizes import sizes_of
from replication.policy import small_model, small_tokenizer, use_machine

SECTIONS = ["policy", "rollout", "erasure", "credit", "objective", "train", "trainer", "grading"]
SHARED = "--algorithm e3rl --trainer.logger none --train.steps 1 --policy.cpu_threads 1 --grading.max_no_answer 1"
QWEN3 = (  # three query heads a key head, where 4B and 8B have four; as they have it, a norm of each head
    "--policy.hidden_size 768 --policy.layers 16 --policy.heads 12 --policy.kv_heads 4 --policy.ffn_size 2304 "
)
SMALL = (
    "--train.prompts 2 --train.minibatches 2 --train.micro_rows 2 --rollout.group_size 4 --rollout.segments 3 "
    "--rollout.segment_tokens 16 --rollout.max_rows 8"
)
WITHIN = 0.15
ASSUMED = "tokens sampled", "passes"


def settings(model: str, flags: str = "") -> Config:
    """The run's settings, as the command would read them."""
    return load_run(SECTIONS, f"--model {model} {SHARED} {flags}".split()).config


def compare(config: Config, policy: Any, tokenizer: Any) -> list[dict[str, Any]]:
    """Rows of part, predicted and measured bytes, for a step that is run now."""
    found = measure.step(config, policy, tokenizer)
    p = Plan(config, sizes_of(config.policy), measure.prompt_tokens(config, tokenizer))
    measured = {
        **{part: found[part] for part in ("weights", "gradients", "optimizer", "KV cache")},
        "activations": measure.activations(config, policy, p.micro, p.prompt),
        "logits, rollout": measure.rollout_logits(config, p.lanes, p.sizes.vocabulary),
        "logits, training": measure.training_logits(p.micro, p.longest, p.sizes.vocabulary),
    }
    predicted = {
        "weights": memory.weights(p),
        "gradients": memory.gradients(p),
        "optimizer": memory.optimizer(p),
        "KV cache": memory.kv_cache(p),
        "activations": memory.saved_activations(p),
        "logits, rollout": memory.rollout_logits(p),
        "logits, training": memory.training_logits(p),
    }
    held, phases = measured["weights"] + measured["gradients"] + measured["optimizer"], memory.memory(p)
    measured["rollout, whole"] = held + found["rollout, peak"]  # a later step's: the first has no gradients yet
    predicted["rollout, whole"] = sum(phases["rollout"].values())
    measured["training, whole"] = held + found["update, peak"] + memory.record(p)  # the record was there before
    predicted["training, whole"] = max(sum(phases[name].values()) for name in ("scoring", "backward", "update"))
    return [{"part": part, "predicted": predicted[part], "measured": measured[part]} for part in measured]


def timing(config: Config, policy: Any, tokenizer: Any, prompt: int) -> list[dict[str, Any]]:
    """The tokens and passes of a step beside what the plan assumes, and its seconds beside the plan's for as many."""
    p = Plan(config, sizes_of(config.policy), prompt)
    *spent, sampled, passes = measure.seconds(config, policy, tokenizer)
    predicted = (
        seconds.sampled_tokens(p),
        seconds.decoding_passes(p),
        *seconds.step_seconds(p, sampled, passes).values(),
    )
    names = *ASSUMED, "seconds, rollout", "seconds, training"
    columns = zip(names, predicted, (sampled, passes, *spent), strict=True)
    return [{"part": name, "predicted": a, "measured": b} for name, a, b in columns]


def report(name: str, config: Config, policy: Any, tokenizer: Any) -> list[dict[str, Any]]:
    """Measure, print and return the rows of a model."""
    use_machine(config.policy)
    rows = compare(config, policy, tokenizer)
    longer = replace(config, train=replace(config.train, steps=2 if name == "tiny" else 1))  # tiny: when all is warm
    rows += timing(longer, policy, tokenizer, measure.prompt_tokens(config, tokenizer))
    for row in rows:
        row["model"], row["ratio"] = name, row["predicted"] / row["measured"]
        unit = "" if row["part"].startswith(("seconds", "tokens", "passes")) else "bytes"
        print(
            f"{name:<9}{row['part']:<18}{row['predicted']:>16,.6g}{row['measured']:>16,.6g} {unit:<6}{row['ratio']:.3f}"
        )
    return rows


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--smollm2", type=Path, help="folder of SmolLM2-135M, by experiments/smollm2.py")
    parser.add_argument("--out", type=Path, default=Path("reports/plan.json"))
    args = parser.parse_args()
    if args.smollm2 is not None and not (args.smollm2 / "config.json").exists():
        raise UserError(f"{args.smollm2} holds no model: python experiments/smollm2.py {args.smollm2}")
    print(f"{'model':<9}{'part':<18}{'predicted':>16}{'measured':>16}       ratio")
    tiny = settings("tiny")
    rows = report("tiny", tiny, small_model(tiny.policy, small_tokenizer(), 0), small_tokenizer())
    qwen3 = settings("tiny", QWEN3 + SMALL)
    rows += report("qwen3", qwen3, small_model(qwen3.policy, small_tokenizer(), 0), small_tokenizer())
    if args.smollm2 is not None:
        rows += report("smollm2", settings(str(args.smollm2), SMALL), *load_policy(str(args.smollm2)))
    args.out.write_text(json.dumps(rows, indent=2) + "\n")
    far = [f"{r['model']} {r['part']}" for r in rows if abs(r["ratio"] - 1) > WITHIN and r["part"] not in ASSUMED]
    print(
        f"-> {args.out}; " + (f"off by more than {WITHIN:.0%}: {', '.join(far)}" if far else f"all within {WITHIN:.0%}")
    )


if __name__ == "__main__":
    run_command(main)
