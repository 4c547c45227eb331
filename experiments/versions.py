"""The core's fast tests under other versions than the pinned ones, each set in an environment of its own.

    python -m experiments.versions [--only older] -> reports/versions.json

What it should show: the versions of a machine that is lent, and the newest ones, give what the tests want, or one line
says what needs another version.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

from replication.errors import Parser, UserError, run_command
from replication.outputs import write_whole

ROOT = Path(__file__).parents[1]
SETS = {  # Python, and what is not as pinned
    "older": ("python3.11", {"torch": "2.11.0", "transformers": "5.17.0"}),
    "newest": ("python3.12", {"torch": "2.14.1", "transformers": "5.24.0"}),
}
NAMED = ("torch", "transformers", "deepspeed", "lightning", "peft")  # in the report
CORE = ("rollout", "decoding", "credit", "objectives", "training", "evaluation", "grading", "data")  # of tests/
EXTRAS = ("train", "wandb", "tensorboard", "dev")
ASK = """import json, platform
from importlib.metadata import version
print(json.dumps({{"python": platform.python_version(), **{{name: version(name) for name in {}}}}}))"""


def requirements(other: dict[str, str]) -> list[str]:
    """What pyproject.toml pins for development, with some versions replaced."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in EXTRAS)]
    names = {line: re.split(r"[^\w-]", line)[0] for part in parts for line in part}
    kept = [line for line, name in names.items() if name not in {"replication", *other}]
    return [*(f"{name}=={version}" for name, version in other.items()), *kept]


def environment(name: str) -> Path:
    """The Python of a set's environment, made where it is not there or not of these requirements."""
    python, other = SETS[name]
    folder, wanted = ROOT / ".scratch/versions" / name, requirements(other)
    note = folder / "requirements.txt"
    if not note.exists() or note.read_text().splitlines() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        called(python, "-m", "venv", str(folder))
        pip = str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"
        called(*pip, *wanted)
        called(*pip, "--no-deps", "-e", str(ROOT))
        note.write_text("\n".join(wanted) + "\n")
    return folder / "bin/python"


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the repository, which its environment finds by itself.

    Raises:
        UserError: it is not here.
    """
    try:
        return subprocess.run(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(f"{argv[0]} is not here: install it, or name the other set by --only") from None


def called(*argv: str) -> str:
    """What a program prints.

    Raises:
        UserError: it fails.
    """
    done = run(*argv)
    if done.returncode:
        raise UserError(f"{' '.join(argv[:4])} ... failed: {last_line(done)}")
    return done.stdout


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stderr or done.stdout).strip().splitlines()[-1:])


def tested(name: str) -> dict[str, Any]:
    """The versions of a set, and what its tests came to; those that fail are named."""
    python = str(environment(name))
    versions = json.loads(called(python, "-c", ASK.format(NAMED)))
    tests = [f"tests/{part}" for part in CORE]
    done = run(python, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-m", "not slow", *tests)
    end = done.stdout[-2000:]
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|skipped|error)", end)}
    if not counts:
        raise UserError(f"no test ran in {name}: {last_line(done)}")
    failing = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return {**versions, **counts, "failing": failing, "date": date.today().isoformat()}


def main() -> None:
    parser = Parser(prog="python -m experiments.versions", description=__doc__)
    parser.add_argument("--only", choices=SETS)
    parser.add_argument("--out", type=Path, default=Path("reports/versions.json"))
    args = parser.parse_args()
    found = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in [args.only] if args.only else SETS:
        found[name] = tested(name)
        print(name, found[name], flush=True)
        write_whole(args.out, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    run_command(main)
