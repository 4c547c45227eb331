"""The whole paper by one command: 4B and 8B, E3RL and the baselines, seven benchmarks, report.

    python -m experiments.paper          checks that this machine can, then runs the DVC selection; resumable
    python -m experiments.paper --dry    lists every command that it would run; works anywhere

Data sets and models are pinned by commit in params.yaml. What it should show: whether the paper's gains are there, by
the gate (`python -m replication.check`) and reports/report.md. It has not been run.
"""

from __future__ import annotations

import subprocess
import sys

from replication.cli import load_run
from replication.config import Config
from replication.errors import Parser, UserError, run_command
from replication.training.machine import check_gpus

MODELS = ["q4b", "q8b"]
ALGORITHMS = ["grpo", "dr_grpo", "dapo", "gspo", "sapo", "e3rl"]  # the paper's baselines, then the paper
SELECTION = [
    f"matrix.bases=[{','.join(MODELS)}]",
    f"matrix.models=[{','.join(MODELS)}]",
    f"matrix.algorithms=[{','.join(ALGORITHMS)}]",
    "matrix.seeds=[0]",
]


def missing(model: str, config: Config) -> list[str]:
    """What this machine lacks for a model, a line each: GPUs, and a copy of the model or a hub to have it from."""
    found = []
    try:
        check_gpus(config.trainer, model.removeprefix("q"))
    except UserError as error:
        found.append(str(error))
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    unreachable = HfHubHTTPError.__bases__  # OSError, and the error of whichever HTTP library the client uses
    name, revision = config.policy.pretrained, config.policy.revision
    assert name is not None
    if not isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
        try:
            HfApi().model_info(name, revision=revision, timeout=10)
        except unreachable as error:
            reason = str(error).strip().splitlines()[0]
            found.append(f"{name} is not in the cache and the hub cannot be asked for it ({reason})")
    return found


def main() -> None:
    parser = Parser(prog="python -m experiments.paper", description=__doc__)
    parser.add_argument("--dry", action="store_true", help="only list the commands")
    options = parser.parse_args()
    if not options.dry:
        lacks = []
        for model in MODELS:
            lacks += missing(model, load_run(["policy", "trainer"], ["--model", model]).config)
        if lacks:
            raise UserError("this machine cannot rerun the paper: " + "; ".join(lacks))
    # --dry alone would want to hash data that no dry stage has made; with --force it asks for none
    flags = ["--dry", "--force"] if options.dry else []
    command = [sys.executable, "-m", "dvc", "exp", "run", *flags]
    done = subprocess.run([*command, *(part for s in SELECTION for part in ("-S", s))])
    sys.exit(done.returncode)


if __name__ == "__main__":
    run_command(main)
