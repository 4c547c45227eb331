"""The command `generate`: its page, what it refuses before anything is loaded, and every kind of output."""

import io
import os
import subprocess
import sys

import pytest
from commands import PARAMS, ROOT

from replication import generate
from replication.config import PolicyConfig
from replication.errors import run_command
from replication.policy import save_policy, small_model, small_tokenizer

SIZE = PolicyConfig(hidden_size=32, layers=2, heads=4, kv_heads=2, ffn_size=48)
FLAGS = ["--model=policy", "--params", str(PARAMS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a random policy."""
    path = tmp_path_factory.mktemp("generate")
    tokenizer = small_tokenizer()
    save_policy(small_model(SIZE, tokenizer, 0), tokenizer, path / "policy")
    return path


@pytest.fixture
def ask(folder, monkeypatch, capsys):
    """Runs the command in this process; its exit code, and what is on standard output and error."""
    monkeypatch.chdir(folder)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["generate", *FLAGS, *flags])
        code = 0
        try:
            run_command(generate.main)
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


def test_it_prints_an_answer_and_writes_its_page(ask, folder):
    code, said, about = ask("--prompt=12+3", "--trace=out.html", "--samples=3")
    assert code == 0 and said.strip() and "3 completions, " in about and "-> out.html" in about
    assert (folder / "out.html").read_text().count("<summary>") == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--prompt is missing"),
        (["--prompt=caf\udce9"], "--prompt is not valid UTF-8: convert it, as by iconv -f latin1 -t utf8"),
        (["--prompt=1", "--samples=0"], "--samples 0: give 1 to 1,024"),
        (["--prompt=1", "--samples=100000000"], "--samples 100000000: give 1 to 1,024"),
        (["--prompt=1", "--samples=1"], "one completion has no group"),
        (["--prompt=1", "--trace=policy"], "--trace policy is a folder: name a file"),
        (["--prompt=1", "--trace=/dev/null"], "--trace /dev/null is a device, a pipe or a socket"),
        (
            ["--prompt=1", "--trace=policy/config.json/x"],
            "cannot be written: Not a directory: name another file by --t",
        ),
        (["--prompt=1", "--model=custom"], "--model custom names no policy"),
    ],
)
def test_what_cannot_be_is_one_line(ask, folder, flags, message):
    before = sorted(folder.rglob("*"))
    code, said, line = ask(*flags)
    assert code == 2 and not said and message in line and line.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


LATIN1 = io.TextIOWrapper(io.BytesIO(b"caf\xe9"), encoding="utf-8")


@pytest.mark.parametrize("given", [LATIN1, io.StringIO("caf\udce9"), None])
def test_standard_input_that_is_no_text_or_closed_is_one_line(ask, monkeypatch, given):
    monkeypatch.setattr(sys, "stdin", given)
    code, _, line = ask("--prompt=-")
    assert code == 2 and line.count("\n") == 1
    assert ("standard input is closed" if given is None else "--prompt is not valid UTF-8") in line


def test_any_output_will_do(ask, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)  # closed
    assert ask("--prompt=12+3")[0] == 0
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert ask("--prompt=12+3")[0] == 0


@pytest.mark.slow
def test_a_reader_that_leaves_ends_it_without_a_word(folder):
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-m", "replication.generate", *FLAGS, "--prompt=12+3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=folder, env=environment, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode == 141
    assert not [line for line in done.stderr.splitlines() if "it/s" not in line and line.strip()]
