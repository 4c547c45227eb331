from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from replication.config import Source
from replication.data.sources import Problem, load_problems, local_file
from replication.errors import UserError

SHA = "5cf055d1fe3d7a2eb19719ac020211469736ae44"


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_every_format_gives_the_same_problems(write, deepmath, name):
    problems = load_problems(Source(write(name, deepmath)), "train")
    assert len(problems) == 3
    assert problems[2] == Problem("train-3", "What is $2 + 2$?", "4", 6.5, "Mathematics -> Algebra")


def test_columns_are_mapped_and_absent_optional_ones_are_empty(write):
    path = write("a.jsonl", [{"problem": "How many?", "answer": 204, "level": 3}])
    columns = {"question": "problem", "final_answer": "answer", "difficulty": "level"}
    assert load_problems(Source(path, columns=columns), "aime24") == [Problem("aime24-1", "How many?", "204", 3.0, "")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (" 12 ", "12"),
        ("073", "073"),
        (73, "73"),
        (204.0, "204"),
        (0.5, "0.5"),
        ("$\\frac{1}{2}$", "\\frac{1}{2}"),
        ("$$ 2n $$", "2n"),
        ("$69$,$84$", "$69$,$84$"),
        ("\\$5", "\\$5"),
        (["2"], "2"),
        (["$3$", "5"], "3, 5"),
        ("['2']", "2"),
        ("['\\\\frac{1}{2}', '3']", "\\frac{1}{2}, 3"),
        ("[0, 1]", "[0, 1]"),
        ("['a', 1]", "['a', 1]"),
        ("['", "['"),
    ],
)
def test_answers_are_normalised_lightly(write, given, expected):
    path = write("a.jsonl", [{"question": "q", "final_answer": given}])
    assert load_problems(Source(path), "b")[0].final_answer == expected


def test_whole_numbers_of_a_parquet_column_become_text(write):
    path = write("a.parquet", [{"question": "q", "final_answer": 70}, {"question": "r", "final_answer": 588}])
    assert [p.final_answer for p in load_problems(Source(path), "b")] == ["70", "588"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "q"}, ["row 2", "'final_answer'", "there are question"]),
        ({"problem": "q", "final_answer": "1"}, ["row 2", "'question'", "problem, final_answer"]),
        ({"question": "  ", "final_answer": "1"}, ["row 2", "'question'", "empty"]),
        ({"question": 7, "final_answer": "1"}, ["row 2", "'question'", "7"]),
        ({"question": "q", "final_answer": ""}, ["row 2", "'final_answer'", "empty"]),
        ({"question": "q", "final_answer": "$ $"}, ["row 2", "'final_answer'", "empty"]),
        ({"question": "q", "final_answer": None}, ["row 2", "'final_answer'", "null"]),
        ({"question": "q", "final_answer": True}, ["row 2", "'final_answer'", "true"]),
        ({"question": "q", "final_answer": {"a": 1}}, ["row 2", "'final_answer'", "{'a': 1}"]),
        ({"question": "q", "final_answer": []}, ["row 2", "'final_answer'", "empty list"]),
        ({"question": "q", "final_answer": float("nan")}, ["row 2", "'final_answer'", "nan"]),
        ({"question": "q", "final_answer": "1", "difficulty": "hard"}, ["row 2", "'difficulty'", "'hard'"]),
        ({"question": "\ud800", "final_answer": "1"}, ["row 2", "'question'", "surrogate"]),
    ],
)
def test_a_bad_row_is_named(write, row, words):
    path = write("bad.jsonl", [{"question": "q", "final_answer": "1"}, row])
    with pytest.raises(UserError) as error:
        load_problems(Source(path), "train")
    message = str(error.value)
    assert all(word in message for word in [*words, "bad.jsonl"]), message
    assert "\n" not in message


def test_a_tolerance_is_a_number_and_of_several_the_smallest(write):
    rows = [{"question": "q", "final_answer": "4.2", "error": error} for error in ("1e-1", None, "", 0.5, "1e-1,1e-2")]
    problems = load_problems(Source(write("a.jsonl", rows), columns={"tolerance": "error"}), "olympiadbench")
    assert [problem.tolerance for problem in problems] == [0.1, None, None, 0.5, 0.01]
    for bad in ("x", -0.1):
        with pytest.raises(UserError, match=r"row 1, column 'error'"):
            load_problems(Source(write("b.jsonl", [{**rows[0], "error": bad}]), columns={"tolerance": "error"}), "o")


def test_a_column_that_the_settings_name_must_be_there(write, deepmath):
    for name in ("a.jsonl", "a.parquet"):
        with pytest.raises(UserError, match=r"'level' \(our difficulty\); there are question, final_answer"):
            load_problems(Source(write(name, deepmath), columns={"difficulty": "level"}), "train")


def test_an_unknown_column_of_ours_is_refused(write, deepmath):
    with pytest.raises(UserError, match=r"data\.benchmarks\.x\.columns names 'answer'.*final_answer"):
        load_problems(Source(write("a.jsonl", deepmath), columns={"answer": "final_answer"}), "x")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"question": "q", "final_answer": "1"}\n{"question"', "row 2: not valid JSON"),
        ("a.jsonl", b'{"question": "q", "final_answer": "1"}\n\n{}', "row 2: empty"),
        ("a.jsonl", b"[1]\n", "row 1: .* is not an object"),
        ("a.jsonl", b"", "holds no problems"),
        ("a.jsonl", b'{"question": "\xff"}\n', "UTF-8"),
        ("a.json", b"{}", "list of objects"),
        ("a.parquet", b"PAR", "not readable as Parquet"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        load_problems(Source(str(tmp_path / name)), "train")
    assert name in str(error.value) and "\n" not in str(error.value)


def test_what_is_a_file_and_what_a_hub_id(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("")
    assert local_file(Source("zwhe99/DeepMath-103K")) is None
    assert local_file(Source("not/there.jsonl")) == Path("not/there.jsonl")
    for path, words in (
        (str(tmp_path), "is a folder"),
        (str(tmp_path / "notes.txt"), "neither a hub id"),
        ("DeepMath", "neither a hub id"),
        ("a/b/c", "neither a hub id"),
    ):
        with pytest.raises(UserError, match=words):
            local_file(Source(path))
    with pytest.raises(UserError, match=r"not/there.jsonl does not exist.*data\.train\.path"):
        load_problems(Source("not/there.jsonl"), "train")


@pytest.mark.parametrize(
    ("revision", "found"), [(None, "no revision"), ("main", "revision 'main'"), (SHA[:7], "revision '5cf055d'")]
)
def test_a_hub_id_must_be_pinned(revision, found):
    words = rf"owner/name has {found}: pin its 40-digit commit by data\.benchmarks\.b\.revision"
    with pytest.raises(UserError, match=words):
        load_problems(Source("owner/name", revision=revision), "b")


class _Datasets:
    """What stands in for the `datasets` package: records the call, and answers or raises."""

    def __init__(self, outcome: Any):
        self.outcome, self.calls = outcome, []

    def load_dataset(self, *args: Any, **keywords: Any) -> Any:
        self.calls.append((args, keywords))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def hub(monkeypatch):
    def install(outcome: Any) -> _Datasets:

        fake = _Datasets(outcome)
        monkeypatch.setattr(sys.modules["datasets"], "load_dataset", fake.load_dataset)
        return fake

    return install


def test_a_hub_data_set_is_loaded_at_its_commit(hub, deepmath):
    import datasets

    fake = hub(datasets.Dataset.from_list(deepmath))
    problems = load_problems(Source("zwhe99/DeepMath-103K", revision=SHA, config="default", split="train"), "train")
    assert [p.final_answer for p in problems] == ["0", "2", "4"]
    assert fake.calls == [(("zwhe99/DeepMath-103K",), {"name": "default", "split": "train", "revision": SHA})]


def test_a_hub_data_set_without_a_column_says_which_it_has(hub, deepmath):
    import datasets

    hub(datasets.Dataset.from_list(deepmath))
    with pytest.raises(UserError, match=r"zwhe99/DeepMath-103K: no column 'problem' \(our question\); .*r1_solution_3"):
        load_problems(Source("zwhe99/DeepMath-103K", revision=SHA, columns={"question": "problem"}), "train")


def test_a_hub_failure_is_one_line(hub):
    for failure in (ConnectionError("Couldn't\nreach it"), ValueError("Unknown split 'trian'"), FileNotFoundError()):
        hub(failure)
        with pytest.raises(UserError, match=r"zwhe99/DeepMath-103K .*cannot be loaded: .*data\.train\.path") as error:
            load_problems(Source("zwhe99/DeepMath-103K", revision=SHA), "train")
        assert "\n" not in str(error.value)
