"""`replication <command>`: the same commands under one name."""

import importlib
import subprocess
import sys

import pytest

from replication import __main__ as console
from replication.errors import UserError


def console_of(monkeypatch, capsys, *argv):
    monkeypatch.setattr(sys, "argv", ["replication", *argv])
    console.main()
    return capsys.readouterr().out


def test_every_command_is_listed_and_is_there(monkeypatch, capsys):
    said = console_of(monkeypatch, capsys)
    for name in console.COMMANDS:
        assert f"\n  {name} " in said and callable(importlib.import_module(f"replication.{name}").main)
    modules = {path.stem for path in console.ROOM.glob("*.py") if "run_command(main)" in path.read_text()}
    assert modules == set(console.COMMANDS)


def test_a_command_becomes_its_module_with_its_arguments(monkeypatch, capsys):
    called = []
    monkeypatch.setattr("os.execv", lambda *argv: called.append(argv))
    console_of(monkeypatch, capsys, "fit", "--model", "4b", "--plan")
    assert called == [(sys.executable, [sys.executable, "-m", "replication.fit", "--model", "4b", "--plan"])]


def test_what_is_no_command_is_one_line(monkeypatch, capsys):
    with pytest.raises(UserError, match="replication train is no command: it has generate, prepare, "):
        console_of(monkeypatch, capsys, "train")


def test_the_version_is_the_packages(monkeypatch, capsys):
    from importlib.metadata import version

    assert console_of(monkeypatch, capsys, "--version") == f"{version('replication')}\n"


def test_bash_completes_commands_and_flags(monkeypatch, capsys):
    script = console_of(monkeypatch, capsys, "completion")

    def completed(*words):
        typed = " ".join(f'"{word}"' for word in ("replication", *words))
        ask = f'{script}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words)}; _replication; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert completed("g") == ["generate", "grade"]
    assert completed("compare", "--o") == ["--out"]
    assert "--train.lr" in completed("fit", "--train.l")
