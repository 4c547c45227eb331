"""Which model families work: every causal LM class of the installed transformers, through every command.

    make families                                    # all of them -> docs/models.md
    python -m experiments.models granite gemma2      # these alone, to the terminal

Each is built with random weights, tiny, saved, and read from the disk by the commands themselves: `generate` with
erasure, `fit` (one step on all weights, one with LoRA), `evaluate` of both exports. It is supported, and every step
worked, or it is refused by one line; anything else ends with exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.tiny_models import NoTinyModel, tiny_model
from replication.data.prepared import write_prepared
from replication.data.tasks import TASKS
from replication.errors import UserError
from replication.policy import save_policy, small_tokenizer

PAGE = Path("docs/models.md")
MISMATCH = 1e-4  # nats a token, in float32
PARAMS = """
models:
  custom:
    policy: {cpu_threads: 1}
    rollout: {group_size: 4, segments: 2, segment_tokens: 6, max_rows: 8, temperature: 4.0}
    erasure: {kappa: -1.0, cap: 1}
    train: {steps: 1, prompts: 2, minibatches: 1, lr: 1.0e-3}
    trainer: {precision: '32', strategy: single, devices: 1, gpu_gib: 0, logger: none}
    grading: {max_no_answer: 1.0}
    evaluate: {samples: 2, problems: 2, modes: [erased]}
algorithms:
  e3rl:
    credit: {overlong_buffer: 1.0}  # shorter completions earn more: a random model has no other signal
"""
NO_ATTENTION = "credit.allocation to uniform"  # the advice where answers cannot look back


@dataclass(frozen=True)
class Row:
    """What became of a family."""

    family: str
    """transformers' model_type"""
    model: str
    """The class"""
    refused: str = ""
    """The line that it is refused by, or nothing"""
    broken: str = ""
    """What went wrong: neither supported nor refused"""
    mismatch: float = 0.0
    """The larger one of the two first steps, in nats a token"""
    attention: bool = False
    """Whether the answer's attention can be looked into (credit.allocation)"""


def command(name: str, *argv: str) -> None:
    """A command of the package in this process, with nothing printed."""
    before = sys.argv
    sys.argv = [name, "--params", "params.yaml", *argv]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            importlib.import_module(f"replication.{name}").main()
    finally:
        sys.argv = before


def trained(out: str, *flags: str) -> tuple[float, bool]:
    """Train one step and evaluate the export: mismatch of the step, and whether attention gave the credit."""
    attention, place = True, ["--model", "./model", "--data", "data"]
    try:
        command("fit", *place, "--out", out, *flags)
    except UserError as error:
        if NO_ATTENTION not in str(error):
            raise
        attention = False
        command("fit", *place, "--out", out, *flags, "--credit.allocation", "uniform")
    command("evaluate", *place, "--checkpoint", out, "--out", f"{out}-samples")
    check_moved(Path("model"), Path(out))
    return float(json.loads(Path(out, "history.jsonl").read_text())["mismatch"]), attention


def check_moved(before: Path, after: Path) -> None:
    """Raise an error unless two checkpoints hold the same weights by name, and other values."""
    from safetensors.torch import load_file

    one, other = (load_file(folder / "model.safetensors") for folder in (before, after))
    if one.keys() != other.keys():
        raise RuntimeError(
            f"the export {after} holds other weights, {sorted(one.keys() ^ other.keys())[:3]} among them"
        )
    if all(one[name].equal(other[name]) for name in one):
        raise RuntimeError(f"the export {after} holds the weights of before the training")


def examine(family: str) -> Row:
    """One family through everything, in a folder of its own."""
    warnings.filterwarnings("ignore")
    os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
    model_class, here = "", Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            model = tiny_model(family)
            model_class = type(model).__name__
            model.generation_config.eos_token_id = [1, *range(10, 20)]  # completions of several lengths
            save_policy(model, small_tokenizer(), Path("model"))
            problems = TASKS["recurrence"].problems(4, 0, 2)
            write_prepared(Path("data"), problems[:2], {"heldout": problems[2:]}, {"counts": {"drawn": 2}})
            Path("params.yaml").write_text(PARAMS)
            command("generate", "--model", "./model", "--prompt", "1+2", "--samples", "2")
            results = [trained("full"), trained("lora", "--policy.lora_rank", "2")]
            mismatch = max(mismatch for mismatch, _ in results)
            broken = f"mismatch {mismatch:.2g}" if not mismatch < MISMATCH else ""
            return Row(family, model_class, "", broken, mismatch, all(attention for _, attention in results))
        except UserError as error:
            return Row(family, model_class, refused=str(error).replace("./model", "FOLDER"))
        except NoTinyModel as error:
            return Row(family, model_class, refused=f"not tried: {error}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the row must say
            words = " ".join(str(error).split())
            return Row(family, model_class, broken=f"{type(error).__name__}: {words}")
        finally:
            os.chdir(here)


def page(rows: Sequence[Row], versions: dict[str, str]) -> str:
    """docs/models.md."""
    supported = [row for row in rows if not row.refused and not row.broken]
    refused = [row for row in rows if row.refused and not row.refused.startswith("not tried")]
    untried = [row for row in rows if row.refused.startswith("not tried")]
    lines = [
        "# Which models work",
        "",
        f"Made by `make families` with transformers {versions['transformers']} and torch {versions['torch']}.",
        "",
        "A family is what `model_type` in a checkpoint's config.json says. Each one was built tiny, with random",
        "weights, and saved. Then the commands read it from the disk: `generate` with erasure, one step of `fit` on",
        "all weights and one with LoRA, `evaluate` of both exports.",
        "",
        f"Of {len(rows)} families {len(supported)} work, {len(refused)} are refused by one line, and "
        f"{len(untried)} could not be built here.",
        "",
        "Another model works, or is refused in the same way: each command begins with a check of the model that it is",
        "given. It samples a few tokens, erases and samples again, and compares the log-probabilities with those of a",
        "plain forward pass, in float32. `fit` compares the trainer's as well.",
        "",
        "## Supported",
        "",
        "Mismatch is the mean difference between the sampler's and the trainer's log-probabilities in the first step,",
        "in nats a token, in float32. Where the answer's attention cannot be looked into, set `credit.allocation` to",
        "uniform.",
        "",
        "| family | class | mismatch | attention of the answer |",
        "|---|---|---|---|",
        *(
            f"| {r.family} | {r.model} | {r.mismatch:.0e} | {'yes' if r.attention else 'no: uniform only'} |"
            for r in supported
        ),
        "",
        "## Refused",
        "",
        "| family | class | error |",
        "|---|---|---|",
        *(f"| {r.family} | {r.model} | {r.refused.replace('|', ' ')} |" for r in refused),
        "",
        "## Not tried",
        "",
        "| family | why |",
        "|---|---|",
        *(f"| {r.family} | {r.refused.removeprefix('not tried: ').replace('|', ' ')} |" for r in untried),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    from importlib.metadata import version

    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="model types; all if none, which writes the page")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    options = parser.parse_args()
    families = options.families or list(dict.fromkeys(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
    begun, rows = time.monotonic(), []
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        for row in pool.map(examine, families):
            rows.append(row)
            verdict = f"BROKEN {row.broken}" if row.broken else row.refused or f"ok, mismatch {row.mismatch:.1e}"
            print(f"{len(rows)} of {len(families)} {row.family}: {verdict}", flush=True)
    broken = [row for row in rows if row.broken]
    print(f"{len(rows)} families in {time.monotonic() - begun:.0f} s, {len(broken)} broken")
    if not options.families and not broken:
        versions: dict[str, Any] = {name: version(name) for name in ("transformers", "torch")}
        PAGE.write_text(page(rows, versions))
        print(f"-> {PAGE}")
    else:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
