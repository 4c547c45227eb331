"""Every command that a page tells a reader to type: its own parser takes it, and what it names is there.

Parsed, not run. `make repro` and the tests of each command run them; DVC's stand with their output on docs/dvc.md.
"""

import argparse
import importlib.util
import re
import shlex
import sys
import tomllib

import pytest
import yaml
from commands import ROOT

from replication import __main__ as console
from replication import cli

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "reports/smollm2.md", ROOT / "experiments/study/README.md"]
LISTING = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
WITHIN = re.compile(r"`((?:python|make|dvc|pip|git|replication|pre-commit|\.ci/run)(?: [^`\n]*)?)`")
FOREIGN = {
    "cd",
    ".",
    "export",
    "mkdir",
    "grep",
    "git",
    "pre-commit",
    "twine",
    "srun",
    "torchrun",
    "vllm",
}  # taken as they are
FOREIGN |= {"trap", "wait", "code=$?", "test", "scontrol", "exit"}  # of a job's script
MADE_UP = {"<folder or hub id>": "owner/name", "--jobs N": "--jobs 2", "$RANK": "0", "$HEAD": "host"}
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def typed(text):
    """The commands of a page, each a list of words: of its shell listings, after `$` in the others, and in its text."""
    said = WITHIN.findall(LISTING.sub("", text))
    for language, body in LISTING.findall(text):
        said += [body] if language in ("bash", "sh") else re.findall(r"^\$ (.*)", body, re.MULTILINE)
    for script in said:
        for there, here in MADE_UP.items():
            script = script.replace(there, here)
        script = re.sub(r"<[\w .-]+>", "made-up", re.sub(r"(?m)(^|\s)#.*$", "", script.replace("\\\n", " ")))
        words = shlex.shlex(script, posix=True, punctuation_chars=";&|\n")
        words.whitespace, words.whitespace_split, words.commenters = " \t", True, ""
        command = []
        for word in [*words, "\n"]:
            if not set(word) <= set(";&|\n"):
                command.append(word)
            elif command:
                yield command
                command = []


TYPED = {shlex.join(words): words for path in PAGES for words in typed(path.read_text())}


class Parsed(Exception):
    """The arguments were taken; what would follow is not run."""


def and_stop(parse):
    def parse_and_stop(*given, **named):
        parse(*given, **named)
        raise Parsed

    return parse_and_stop


@pytest.fixture
def parse(monkeypatch, tmp_path):
    """Gives a command its arguments; params.yaml has the algorithm that docs/extending.md adds."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    (added,) = [body for name, body in LISTING.findall((ROOT / "docs/extending.md").read_text()) if name == "yaml"]
    params["algorithms"] |= yaml.safe_load(added)["algorithms"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", and_stop(argparse.ArgumentParser.parse_args))

    def give(module, argv):
        is_package = importlib.util.find_spec(module).submodule_search_locations is not None
        called = importlib.import_module(f"{module}.__main__" if is_package else module)
        if hasattr(called, "load_run"):
            monkeypatch.setattr(called, "load_run", and_stop(cli.load_run))
        monkeypatch.setattr(sys, "argv", [module, *argv])
        with pytest.raises(Parsed):
            called.main()

    return give


@pytest.mark.parametrize("words", TYPED.values(), ids=TYPED)
def test_what_a_page_says_to_type_is_taken(parse, words):
    name, given = words[0].rpartition("/")[2], words[1:]
    module = given[given.index("-m") + 1] if "-m" in given else ""
    if module.startswith(("replication.", "experiments.")):  # of torchrun and srun, too
        given = given[given.index("-m") + 2 :]
        if given:
            parse(module, given)
        else:  # named, not told: `python -m replication.grade`
            assert importlib.util.find_spec(module)
    elif name == "replication":
        assert given[0] in (*console.COMMANDS, "--version")
        if given[1:]:
            parse(f"replication.{given[0]}", given[1:])
    elif name == "make":
        assert {word for word in given if "=" not in word} <= TARGETS
    elif name == "dvc":
        from dvc.cli.parser import get_main_parser

        get_main_parser().parse_args(given)
    elif name == "pip":
        assert given[0] == "install" and set(re.findall(r"^(?:\.|replication)\[(.+)\]", given[-1])) <= {*EXTRAS}
    elif name.startswith("python"):
        assert module in ("venv", "build", "vllm.entrypoints.openai.api_server") or (ROOT / given[0]).is_file()
    elif name == "docker":
        targets = [given[place + 1] for place, word in enumerate(given) if word == "--target"]
        stages = re.findall(r"^FROM .* AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        assert given[0] in ("build", "run") and set(targets) <= set(stages)
    elif words[0] != ".ci/run":
        assert name in FOREIGN
        if given[:1] == ["checkout"]:
            assert all((ROOT / path).exists() for path in given[1:])


def test_the_commands_are_found():
    names = {words[0].rpartition("/")[2] for words in TYPED.values()}
    assert names >= {"make", "python", "dvc", "pip", "replication", "torchrun", "srun"} and len(TYPED) > 90
