"""`replication <command>`: the same commands under one name."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from replication import __main__ as console
from replication.cli import load_run
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
    assert modules - {"__main__"} == set(console.COMMANDS)


def test_a_command_becomes_its_module_with_its_arguments(monkeypatch, capsys):
    called = []
    monkeypatch.setattr("os.execv", lambda *argv: called.append(argv))
    console_of(monkeypatch, capsys, "fit", "--model", "4b", "--plan")
    assert called == [(sys.executable, [sys.executable, "-m", "replication.fit", "--model", "4b", "--plan"])]


@pytest.mark.parametrize("command", ["generate", "evaluate"])
def test_without_a_settings_file_decoding_takes_the_packages_own(monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    own = ["--params", str(console.SETTINGS)]
    assert console.with_settings(command, ["--model", "m"]) == ["--model", "m", *own]
    assert console.with_settings("fit", ["--model", "m"]) == ["--model", "m"]
    for named in (["--params", "mine.yaml"], ["--params=mine.yaml"]):
        assert console.with_settings(command, named) == named
    (tmp_path / "params.yaml").touch()
    assert console.with_settings(command, []) == []


def test_the_packages_own_settings_are_of_any_model(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    argv = console.with_settings("generate", ["--model", "model"])
    run = load_run(["policy", "rollout", "erasure"], argv)
    assert (run.config.policy.pretrained, run.config.rollout.segment_tokens) == ("model", 64)
    with pytest.raises(UserError, match="tiny is not known: use one of custom, the folder of a model, or a hub id"):
        load_run(["policy"], console.with_settings("generate", []))


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


LIGHT = ("generate", "evaluate", "compare", "grade")  # what `pip install .` without extras is for
COMES_WITH = {"numpy", "tokenizers", "safetensors", "latex2sympy2_extended"}  # what those depend on
NAMES = {"yaml": "pyyaml"}


@pytest.mark.parametrize("command", LIGHT)
def test_a_light_command_imports_nothing_of_the_extras(command):
    from test_pipeline import closure

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    named = {line.split("==")[0].split(">=")[0] for line in project["dependencies"]}
    allowed = {name.replace("-", "_") for name in named} | COMES_WITH | {"replication"} | set(sys.stdlib_module_names)
    for path in closure(f"replication.{command}"):
        if path.parent.name == "vllm":
            continue  # is read where `rollout.engine` asks for it
        for node in ast.parse(path.read_text()).body:  # what a function imports is for what it does
            found = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            found += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in (module.split(".")[0] for module in found):
                assert NAMES.get(name, name) in allowed, f"{path}: {name}"
