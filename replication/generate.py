"""Ask any causal LM, and watch it erase: `python -m replication.generate --model <folder or hub id> --prompt "..."`.

The first completion is printed as it grows, what is erased struck through. `--trace out.html` writes a page of all of
them. No training, no verifier: only the model's own uncertainty.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from replication.cli import Run, check_start, load_run
from replication.errors import UserError, run_command
from replication.outputs import check_file_output, write_whole

MOST = 1024  # completions that are sampled side by side

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--prompt", {"type": str | None, "default": None, "help": "what to ask; - reads it from standard input"}),
    ("--samples", {"type": int, "default": 4, "help": "completions, which are each other's group; the first is shown"}),
    ("--seed", {"type": int, "default": 0, "help": "the completions are a function of it"}),
    ("--checkpoint", {"type": str | None, "default": None, "help": "folder of trained weights of that model"}),
    ("--trace", {"type": str | None, "default": None, "help": "an HTML page of every token and erased attempt"}),
]


def check(run: Run) -> tuple[str, Path | None]:
    """The prompt and the page's path, before anything is loaded."""
    options = run.options
    if options["prompt"] == "-" and sys.stdin is None:
        raise UserError("standard input is closed: give it the prompt, or name it by --prompt")
    try:
        prompt = sys.stdin.read() if options["prompt"] == "-" else options["prompt"]
        (prompt or "").encode()  # bytes of the command line that are no text are kept apart until here
    except UnicodeError:
        raise UserError("--prompt is not valid UTF-8: convert it, as by iconv -f latin1 -t utf8") from None
    if prompt is None:
        raise UserError('--prompt is missing: ask something, as in --prompt "What is 3 + 4?"')
    if not 1 <= options["samples"] <= MOST:
        raise UserError(f"--samples {options['samples']}: give 1 to {MOST:,}")
    trace = Path(options["trace"]) if options["trace"] else None
    if trace:
        check_file_output(trace, "--trace")
    check_start(run)
    return prompt, trace


def main() -> None:
    run = load_run(["policy", "rollout", "erasure"], options=OPTIONS, description="Erasable decoding of a prompt.")
    prompt, trace = check(run)
    erasure, samples = run.config.erasure, run.options["samples"]

    from replication.data.template import encode
    from replication.decoding.page import page
    from replication.decoding.sample import check_group, generate
    from replication.decoding.terminal import Terminal
    from replication.decoding.trace import segments
    from replication.loading import eos_ids, load_policy
    from replication.policy import base_policy, use_machine
    from replication.rollout.agreement import check_policy
    from replication.rollout.engines import build_engine

    rollout = dataclasses.replace(run.config.rollout, group_size=samples, max_rows=samples, cool_fraction=0.0)
    check_group(rollout, erasure, prompts=1)
    checkpoint = run.options["checkpoint"]
    path, revision = (checkpoint, None) if checkpoint else base_policy(run.config.policy, run.model)
    here = rollout.engine != "server"
    model, tokenizer = load_policy(path, revision, run.config.policy.dtype, weights=here)
    device = use_machine(run.config.policy)
    if here:
        model.to(device)
    asked = encode(tokenizer, prompt, run.config.policy.thinking)
    ends, pad, thinking = eos_ids(model, tokenizer), tokenizer.pad_token_id, run.config.policy.thinking
    engine = build_engine(model, tokenizer, rollout, lambda: len(asked))
    check_policy(engine, model, asked, ends, pad)
    terminal = Terminal(tokenizer, sys.stdout)
    done = generate(
        model, tokenizer, prompt, rollout, erasure, run.options["seed"], thinking, watcher=terminal, engine=engine
    )
    kept, erased = int(done.length.sum()), int(done.erased_tokens.sum())
    print(f"\n\n{samples} completions, {kept} tokens kept, {erased} erased", file=sys.stderr)
    if trace:
        members = [segments(done, row, tokenizer, erasure.uncertainty) for row in range(samples)]
        settings = {"model": path, "seed": str(run.options["seed"])}
        settings |= {f"rollout.{k}": str(getattr(rollout, k)) for k in ("temperature", "segments", "segment_tokens")}
        settings |= {f"erasure.{key}": str(value) for key, value in dataclasses.asdict(erasure).items()}
        title = f"Erasable decoding: {Path(path).name}"
        write_whole(trace, page(title, prompt, members, settings), "--trace")
        print(f"-> {trace}", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
