"""How a command ends: one line for what the user or the system did, a traceback for a fault of the program."""

import errno
import io
import os
import signal
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from replication.errors import EXTRAS, SIGNALS, UserError, installing, run_command


@pytest.fixture
def ended(capsys):
    """Runs a body as a command; its exit code, and what it left on standard error."""

    def run(body):
        with pytest.raises(SystemExit) as end:
            run_command(body)
        return end.value.code, capsys.readouterr().err

    return run


def raising(error):
    def body():
        raise error

    return body


def test_bad_input_is_one_line(ended):
    assert ended(raising(UserError("a is not b: do c"))) == (2, "error: a is not b: do c\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_one_line_and_what_is_open_is_cleaned_up(ended, number):
    before, cleaned = signal.getsignal(number), []

    def body():
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(True)

    name = signal.Signals(number).name
    assert ended(body) == (128 + number, f"stopped by {name}: run the same command again\n")
    assert cleaned == [True] and signal.getsignal(number) is before


def test_of_many_processes_the_first_one_speaks(ended, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert ended(lambda: signal.raise_signal(signal.SIGINT)) == (130, "")


def test_an_ignored_signal_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as by nohup
    try:
        run_command(lambda: signal.raise_signal(signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "No space left on device: make room on that disk"),
        (errno.EACCES, "Permission denied: let this user read and write it, or name another"),
        (errno.EROFS, "Read-only file system: name a place that can be written"),
        (errno.ENAMETOOLONG, "File name too long: choose a shorter name"),
        (errno.ENOENT, "No such file or directory: name one that is there"),
    ],
)
def test_what_the_system_refuses_is_one_line(ended, number, remedy):
    assert ended(raising(OSError(number, os.strerror(number), "a/b"))) == (2, f"error: a/b: {remedy}\n")
    assert ended(raising(OSError(number, os.strerror(number)))) == (2, f"error: {remedy}\n")  # of a write


def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder(ended, tmp_path):
    (tmp_path / "file").touch()
    assert ended(tmp_path.read_text) == (2, f"error: {tmp_path}: Is a directory: name a file\n")
    assert ended((tmp_path / "file/x").read_text) == (2, f"error: {tmp_path}/file/x: Not a directory: name a folder\n")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_too_little_memory_is_one_line(ended, error):
    code, line = ended(raising(error))
    assert code == 2 and line.startswith("error: out of memory: lower rollout.max_rows") and line.count("\n") == 1
    assert "rollout.gpu_share" in line  # vLLM's memory, which max_rows does not bound


def test_a_package_of_an_extra_is_named_with_it(ended):
    pyproject = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for package, extra in EXTRAS.items():
        missing = ModuleNotFoundError(f"No module named {package!r}", name=f"{package}.pytorch")
        line = f"error: this needs the package {package}: install it by `{installing(extra)}`\n"
        assert ended(raising(missing)) == (2, line)
        brought = " ".join(pyproject["optional-dependencies"][extra])
        assert package.replace("_", "-") in brought or (
            package == "pyarrow" and "datasets" in brought
        )  # which depends on it
    with pytest.raises(ModuleNotFoundError, match="torch"):  # of the core: the environment is broken
        run_command(raising(ModuleNotFoundError("No module named 'torch'", name="torch")))


def test_an_extra_is_added_to_the_package_as_it_is_installed(monkeypatch):
    """pip leaves a version that is there as it is, so the same words do for a checkout and for a wheel."""
    assert installing("train") == f"pip install 'replication[train]=={version('replication')}'"

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("replication.errors.version", missing)  # run from its folder, by PYTHONPATH
    assert installing("train") == "pip install '.[train]'"


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), OSError("x"), BrokenPipeError(errno.EPIPE, "x")])
def test_a_fault_of_the_program_stays_a_traceback(error):
    with pytest.raises(type(error), match="x"):
        run_command(raising(error))


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_reader_that_leaves_is_no_error(ended, monkeypatch, unbuffered):
    read, write = os.pipe()
    os.close(read)
    with io.TextIOWrapper(io.FileIO(write, "w"), write_through=unbuffered) as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert ended(lambda: print("text")) == (141, "")
        print("what Python would flush as it leaves", flush=True)


def test_an_output_that_is_full_is_one_line(ended, monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert ended(lambda: print("text")) == (2, "error: No space left on device: make room on that disk\n")


def test_a_closed_output_and_what_an_encoding_lacks_are_no_errors(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    run_command(lambda: print("text", flush=True))
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    run_command(lambda: print("Zoë of \udcff"))
    assert written.getvalue() == b"Zo\\xeb of \\udcff\n"
