from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from replication import prepare
from replication.data import prepared
from replication.data.clean import Removed
from replication.data.prepared import read_benchmarks, read_train, write_prepared
from replication.data.sources import Problem
from replication.errors import UserError

TRAIN = [Problem("train-1", "Was ist $½$? \u2028 “so”", "0.5", 5.5, "Arithmetic"), Problem("train-3", "Why?", "42")]
BENCHMARKS = {
    "b": [Problem("b-1", "How?", "1")],
    "a.2": [Problem("a.2-1", "When?", "2"), Problem("a.2-2", "Who?", "3")],
}


def write(folder, **changes):
    arguments = {"train": TRAIN, "benchmarks": BENCHMARKS, "manifest": {"seed": 7}} | changes
    write_prepared(folder, **arguments)


def test_what_is_written_is_read(tmp_path):
    folder = tmp_path / "data" / "tiny"
    write(folder, removed=[Removed(Problem("train-2", "How?", "1"), "exact", "b-1")])
    assert read_train(folder) == TRAIN
    assert read_benchmarks(folder) == BENCHMARKS and list(read_benchmarks(folder)) == ["a.2", "b"]
    assert read_benchmarks(folder, ["b"]) == {"b": BENCHMARKS["b"]}
    assert json.loads((folder / "removed.jsonl").read_text()) == {"id": "train-2", "reason": "exact", "match": "b-1"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["seed"] == 7
    assert set(manifest["files"]) == {"train.jsonl", "removed.jsonl", "benchmarks/a.2.jsonl", "benchmarks/b.jsonl"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_an_earlier_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "tiny"
    write(folder)
    write(folder, train=TRAIN[:1], benchmarks={})
    assert read_train(folder) == TRAIN[:1]
    assert list((folder / "benchmarks").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_failure_leaves_the_earlier_folder_and_nothing_else(tmp_path, monkeypatch):
    folder = tmp_path / "tiny"
    write(folder)

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepared, "sha256_of", full)
    with pytest.raises(UserError, match="tiny cannot be written: No space left on device"):
        write(folder, train=TRAIN[:1])
    assert read_train(folder) == TRAIN
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_only_prepared_data_is_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"thesis holds something else"):
        write(tmp_path / "thesis")
    with pytest.raises(UserError, match=r"file is a file"):
        write(tmp_path / "file")
    assert (tmp_path / "thesis" / "chapter1.txt").exists()
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    assert read_train(tmp_path / "empty") == TRAIN


@pytest.mark.parametrize("name", ["../b", "a/b", "", ".hidden", "a b"])
def test_a_benchmark_name_must_name_a_file(tmp_path, name):
    with pytest.raises(UserError, match="cannot name a file"):
        write(tmp_path / "tiny", benchmarks={name: BENCHMARKS["b"]})
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named_with_the_remedy(tmp_path):
    folder = tmp_path / "data" / "q4b"
    command = "run `python -m replication.prepare --model q4b`"
    with pytest.raises(UserError, match=rf"q4b/train.jsonl does not exist: {command}"):
        read_train(folder)
    with pytest.raises(UserError, match=rf"q4b/benchmarks does not exist: {command}"):
        read_benchmarks(folder)
    with pytest.raises(UserError, match=rf"run `python -m replication.prepare --out {tmp_path}/mine` with the --model"):
        read_train(tmp_path / "mine")
    write(folder)
    with pytest.raises(UserError, match=r"no benchmark 'aime24'; there are a\.2, b"):
        read_benchmarks(folder, ["b", "aime24"])


ROW = {"id": "1", "question": "q", "final_answer": "5", "difficulty": None, "topic": "", "tolerance": None}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "",
        '{"id": "1", "question": "q"}',
        "[" * 100_000,
        "1" * 5000,
        json.dumps({**ROW, "question": 5}),
        json.dumps({**ROW, "final_answer": " "}),
        json.dumps({**ROW, "id": None}),
        json.dumps({**ROW, "topic": None}),
        json.dumps({**ROW, "topic": "\ud800"}),
        json.dumps({**ROW, "difficulty": "hard"}),
        json.dumps({**ROW, "difficulty": float("nan")}),
        json.dumps({**ROW, "tolerance": True}),
        json.dumps(ROW)[:-9],
    ],
)
def test_a_damaged_line_is_named_with_the_remedy(tmp_path, line):
    folder = tmp_path / "data" / "tiny"
    write(folder)
    with (folder / "train.jsonl").open("a") as file:
        file.write(line + "\n")
    words = "prepare the data again: run `python -m replication.prepare --model tiny`"
    with pytest.raises(UserError, match=rf"train.jsonl, row 3: .*{words}") as error:
        read_train(folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < len(str(tmp_path)) + 350


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path, content):
    folder = tmp_path / "data" / "tiny"
    write(folder)
    for name in ("train.jsonl", "benchmarks/b.jsonl"):
        (folder / name).write_bytes(content)
    for path, read in (("train", read_train), ("benchmarks/b", read_benchmarks)):
        with pytest.raises(UserError, match=rf"{path}.jsonl: .*`python -m replication.prepare --model tiny`"):
            read(folder)


@pytest.mark.parametrize("content", ["[]", "", "{", '{"counts": []}', '{"sources": {"train": "x"}}', "[" * 100_000])
def test_a_damaged_manifest_is_known_before_the_training(tmp_path, content):
    folder = tmp_path / "data" / "tiny"
    write(folder)
    (folder / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest.json: .*`python -m replication.prepare --model tiny`"):
        read_train(folder)


@pytest.mark.parametrize("gone", ["train.jsonl", "manifest.json"])
def test_the_remedy_works(tmp_path, monkeypatch, gone):
    """What the message of a damaged folder says makes it whole."""
    monkeypatch.chdir(tmp_path)
    folder = Path("data/tiny")
    Path("params.yaml").write_text("{models: {tiny: {data: {task: recurrence, train_problems: 4}}}, algorithms: {}}")
    write(folder)
    (folder / "benchmarks/b.jsonl").write_text("{")
    (folder / gone).unlink()
    with pytest.raises(UserError) as error:
        read_benchmarks(folder)
    if "delete data/tiny and run" in str(error.value):
        shutil.rmtree(folder)
    command = re.search(r"run `python -m replication\.(.*)`", str(error.value))[1]
    monkeypatch.setattr(sys, "argv", command.split())
    prepare.main()
    assert len(read_train(folder)) == 4
