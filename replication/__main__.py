"""`replication <command>`, the same as `python -m replication.<command>`.

Also `replication --version`, and `replication completion` for what bash completes: `eval "$(replication completion)"`.
Where there is no params.yaml, as after the install of a wheel, `generate` and `evaluate` read the package's own, for a
model that is a folder or a hub id.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path

from replication.errors import UserError, run_command

ROOM = Path(__file__).parent
COMMANDS = {  # in the order of their use
    "generate": "ask any causal LM, and watch it erase",
    "prepare": "problems to train on and to evaluate on",
    "warmstart": "teach a small model a synthetic task",
    "fit": "train a policy and export it; --plan says what it would take",
    "evaluate": "sample a model on benchmarks, erasure off and on, and grade it",
    "compare": "what one evaluation gains over another, and how sure that is",
    "grade": "grade predictions in a file",
    "report": "the report of the runs in params.yaml's matrix",
    "check": "the gate: the metrics against the recorded ones and the paper's",
    "repro": "rerun what has changed of the pipeline",
}

SETTINGS = ROOM / "decoding/params.yaml"  # `custom` of the repository's params.yaml
DECODES = ("generate", "evaluate")  # what needs no other settings than those


def usage() -> str:
    """What `replication` says without a command."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: replication <command> [--help]", "", *rows, "", "replication --version, completion"])


def flags(command: str) -> list[str]:
    """The long flags of a command, as its --help names them."""
    said = io.StringIO()
    before, sys.argv = sys.argv, [command, "--help"]
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            importlib.import_module(f"replication.{command}").main()
    finally:
        sys.argv = before
    return sorted(set(re.findall(r"(?<![\w-])--[\w.-]+", said.getvalue())))


def completion() -> str:
    """A bash function that completes commands, their flags, and files."""
    cases = [f'    {name}) words="{" ".join(flags(name))}" ;;' for name in COMMANDS]
    return "\n".join([
        "_replication() {",
        '  local words="" word="${COMP_WORDS[COMP_CWORD]}"',
        f'  if [ "$COMP_CWORD" = 1 ]; then words="{" ".join(COMMANDS)} completion --version --help"; else',
        '  case "${COMP_WORDS[1]}" in',
        *cases,
        "  esac; fi",
        '  COMPREPLY=($(compgen -W "$words" -- "$word"))',
        "}",
        "complete -o default -F _replication replication",
    ])  # fmt: skip


def with_settings(command: str, argv: list[str]) -> list[str]:
    """The arguments of a command, with the package's own settings where there are no others."""
    named = any(word == "--params" or word.startswith("--params=") for word in argv)
    needed = command in DECODES and not named and not Path("params.yaml").exists()
    return [*argv, "--params", str(SETTINGS)] if needed else argv


def main() -> None:
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("--help", "-h"):
        print(usage())
    elif command == "--version":
        print(version("replication"))
    elif command == "completion":
        print(completion())
    elif command in COMMANDS:
        sys.stdout.flush()
        argv = with_settings(command, sys.argv[2:])
        os.execv(sys.executable, [sys.executable, "-m", f"replication.{command}", *argv])  # as Lightning needs it
    else:
        raise UserError(f"replication {command} is no command: it has {', '.join(COMMANDS)}")


def run() -> None:
    """The console's entry point."""
    run_command(main)


if __name__ == "__main__":
    run()
