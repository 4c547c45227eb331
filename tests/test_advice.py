"""What messages tell a user to type works: the commands, flags, settings and make targets that they name are there."""

import ast
import functools
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from commands import ROOT

from replication import prepare
from replication.__main__ import flags
from replication.cli import check_start, data_of, load_run
from replication.config import SECTIONS
from replication.errors import UserError
from replication.evaluate import OPTIONS

COMMANDS = ["prepare", "warmstart", "fit", "evaluate", "generate", "grade", "compare", "report", "check", "repro"]


def texts(path):
    """The texts of a file but its docstrings, as they are printed; … stands for what is put in."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)]
    skipped = {id(body[0].value) for body in bodies}
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value
        else:
            waiting += ast.iter_child_nodes(node)


SAID = [(path.name, text) for path in (ROOT / "replication").rglob("*.py") for text in texts(path)]


@functools.cache
def flags_of(name):
    """The flags that `--help` of a command lists."""
    return set(flags(name))


def is_flag_of(flag, flags):
    """Whether the flag, or the setting that it is a part of, is among the flags."""
    return flag in flags or flag.rpartition(".")[0] in flags


def test_every_command_that_a_message_names_takes_the_flags_beside_it():
    named = re.compile(r"`python -m replication\.(\w+)([^`]*)`")
    found = [(file, *said) for file, text in SAID for said in named.findall(text)]
    assert {name for _, name, _ in found} >= {"evaluate", "report"}
    for file, name, rest in found:
        assert name in COMMANDS or name == "grading", file
        assert all(is_flag_of(flag, flags_of(name)) for flag in re.findall(r"--[\w.-]+", rest)), (file, rest)


def test_every_flag_that_a_message_names_is_one_of_a_command():
    others = {"--single-item", "--wait-for-lock", "--version"}  # DVC's, and the console's
    others |= {"--logprobs-mode", "--max-model-len", "--generation-config"}  # of a vLLM server
    others |= {"--nodes", "--ntasks-per-node"}  # of srun
    every = set().union(*map(flags_of, COMMANDS)) | others
    pattern = re.compile(r"(?<![\w(-])--[a-z][\w-]*(?:\.\w+)*")  # none after a bracket: var(--ink) is a style's
    named = {(file, flag) for file, text in SAID for flag in pattern.findall(text)}
    assert len(named) > 40 and {(file, flag) for file, flag in named if not is_flag_of(flag, every)} == set()


def test_every_setting_that_a_message_names_is_there():
    named = re.compile(rf"(?<![\w./-])({'|'.join(SECTIONS)})\.(?!jsonl|yaml|json|md|py)([a-z]\w*)")
    found = {setting for _, text in SAID for setting in named.findall(text)}
    fields = {(section, key) for section, settings in SECTIONS.items() for key in settings.__dataclass_fields__}
    assert len(found) > 40 and found - fields == set()


def test_every_make_target_that_a_message_names_is_there():
    rules = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for _, text in SAID for target in re.findall(r"`make (\w+)`", text)}
    assert named and named <= rules


ROW = '{"question": "What is 1 + 1?", "final_answer": "2"}\n'
PLAIN = {"tiny": {"data": {"task": "recurrence", "train_problems": 8}}, "custom": {"policy": {"dtype": "float32"}}}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "mine.yaml"):
        Path(name).write_text(yaml.safe_dump({"models": PLAIN, "algorithms": {}}))
    for name in ("FILE", "other"):
        Path(f"{name}.jsonl").write_text(ROW if name == "FILE" else ROW.replace("1", "3"))
    Path("my model").mkdir()
    return tmp_path


def asked(*argv):
    return load_run(["policy", "rollout", "erasure", "evaluate", "grading"], argv, OPTIONS)


def advice(call, *given):
    with pytest.raises(UserError) as error:
        call(*given)
    (command,) = re.findall(r"`python -m replication\.(\w+ [^`]*)`", str(error.value))
    return shlex.split(command)


@pytest.mark.parametrize(
    "argv",
    [
        ("--model", "tiny"),
        ("--model", "tiny", "--params", "mine.yaml"),
        ("--model", "tiny", "--data", "elsewhere/mine"),
        ("--model", "my model"),
        ("--model", "my model", "--params", "mine.yaml"),
        ("--model", "owner/name"),
    ],
)
def test_the_command_that_makes_missing_problems_makes_them(place, monkeypatch, argv):
    run = asked(*argv)
    command = advice(data_of, run, "benchmarks/*.jsonl")
    assert command[:3] == ["prepare", "--model", run.asked]
    place_holders = {"FILE": "FILE.jsonl", "{NAME: {path: FILE}}": "{NAME: {path: other.jsonl}}"}
    monkeypatch.setattr(sys, "argv", [place_holders.get(word, word) for word in command])
    prepare.main()
    assert list(data_of(run, "benchmarks/*.jsonl").glob("benchmarks/*.jsonl"))


def test_a_missing_policy_is_named_with_what_makes_it(place):
    assert advice(check_start, asked("--model", "tiny")) == ["warmstart", "--model", "tiny"]
    mine = asked("--model", "tiny", "--params", "mine.yaml")
    assert advice(check_start, mine) == ["warmstart", "--model", "tiny", "--params", "mine.yaml"]
    with pytest.raises(UserError, match=r"^--model custom names no policy: give the folder or hub id of one, or"):
        check_start(asked("--model", "custom"))
    check_start(asked("--model", "custom", "--policy.pretrained", "my model"))
    check_start(asked("--model", "my model"))


def test_weights_that_may_not_be_read_are_not_missing(place, monkeypatch):
    (place / "my model/model.safetensors").touch()
    run = asked("--model", "my model")

    def forbidden(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", forbidden)  # as root, any file can be read
    with pytest.raises(PermissionError, match=r"my model/model\.safetensors"):  # of which `run_command` makes a line
        check_start(run)


@pytest.mark.parametrize("found", [None, SimpleNamespace(origin=None)], ids=["nothing", "a folder of that name"])
def test_vllm_is_asked_for_before_anything_is_loaded(place, monkeypatch, found):
    monkeypatch.setattr("replication.cli.find_spec", lambda name: found)
    run = asked("--model", "custom", "--policy.pretrained", "my model", "--rollout.engine", "vllm")
    with pytest.raises(UserError, match=r"rollout.engine = vllm needs vLLM: .*`make vllm`.*--rollout.engine torch"):
        check_start(run)
    monkeypatch.setattr("replication.cli.find_spec", lambda name: SimpleNamespace(origin="vllm/__init__.py"))
    check_start(run)
