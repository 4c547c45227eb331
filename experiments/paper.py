"""The whole paper by one command: 4B and 8B, E3RL and the baselines, seven benchmarks, report.

    python -m experiments.paper          checks that this machine can, then runs the DVC selection; resumable
    python -m experiments.paper --dry    lists every command that it would run; works anywhere

Data sets and models are pinned by commit in params.yaml. What it should show: whether the paper's gains are there, by
the gate (`python -m replication.check`) and reports/report.md. It has not been run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from replication.cli import load_run
from replication.config import Config
from replication.errors import Parser, UserError, run_command
from replication.pipeline.stages import has_git
from replication.training.machine import check_gpus

MODELS = ["q4b", "q8b"]
ALGORITHMS = ["grpo", "dr_grpo", "dapo", "gspo", "sapo", "e3rl"]  # the paper's baselines, then the paper
SELECTION = {
    "bases": f"[{','.join(MODELS)}]",
    "models": f"[{','.join(MODELS)}]",
    "algorithms": f"[{','.join(ALGORITHMS)}]",
    "seeds": "[0]",
}


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


def dry() -> int:
    """List the commands, by DVC in a folder of its own: no git, data or lock of this one is asked for."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["matrix"] = {key: yaml.safe_load(value) for key, value in SELECTION.items()}
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        shutil.copy("dvc.yaml", folder)
        for argv in (["init", "--no-scm", "--quiet"], ["repro", "--dry", "--force"]):  # with --force it hashes nothing
            code = subprocess.run([sys.executable, "-m", "dvc", *argv], cwd=folder).returncode
            if code:
                return code
    return 0


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
    if options.dry:
        sys.exit(dry())
    if not has_git(Path.cwd()):
        raise UserError("DVC's experiments need git, and there is none here: clone the repository, or `git init` it")
    command = [sys.executable, "-m", "dvc", "exp", "run"]
    selection = [part for key, value in SELECTION.items() for part in ("-S", f"matrix.{key}={value}")]
    done = subprocess.run([*command, *selection])
    sys.exit(done.returncode)


if __name__ == "__main__":
    run_command(main)
