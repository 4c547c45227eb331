from __future__ import annotations

import gzip
import os
import sys
from decimal import Decimal
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
        ({"question": "q", "final_answer": "1", "topic": "\ud800"}, ["row 2", "'topic'", "surrogate"]),
        ({"question": "q", "final_answer": "1", "difficulty": float("inf")}, ["row 2", "'difficulty'", "inf is not"]),
        ({"question": "q", "final_answer": "1", "difficulty": [[]]}, ["row 2", "'difficulty'", "[[]] is not a number"]),
    ],
)
def test_a_bad_row_is_named(write, row, words):
    path = write("bad.jsonl", [{"question": "q", "final_answer": "1"}, row])
    with pytest.raises(UserError) as error:
        load_problems(Source(path), "train")
    message = str(error.value)
    assert all(word in message for word in [*words, "bad.jsonl"]), message
    assert "\n" not in message


SOLUTION = "First she sold 48 clips. Then she sold half as many. Altogether she sold 72."


def test_a_solution_without_a_marked_answer_is_refused_with_its_row_and_what_to_do(write):
    path = write("a.jsonl", [{"question": "q", "answer": "so 5\n#### 5"}, {"question": "q", "answer": SOLUTION}])
    with pytest.raises(UserError) as error:
        load_problems(Source(path, columns={"final_answer": "answer"}), "gsm8k")
    assert str(error.value) == (
        f"{path}, row 2, column 'answer': 13 words, none marked as the answer by \\boxed{{...}} or a last #### ("
        "'...ld half as many. Altogether she sold 72.'): correct or drop the row, or name another column by "
        "data.benchmarks.gsm8k.columns"
    )


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("final_answer", "1" * 5000, ", column 'final_answer': a number of 5,000 digits, more than 2,000"),
        ("final_answer", "1e999999999", ", column 'final_answer': a number of 1,000,000,000 digits"),
        ("final_answer", "1e99999999999999999999", ", column 'final_answer': NaN is not a number"),
        ("question", "1" * 5000, r", column 'question': 1111.*1 is not a question"),
        ("tolerance", "1" * 5000, r", column 'tolerance': 1111.*1 is not a finite number"),
        ("final_answer", "[" * 100_000, ": nested too deeply"),
        ("final_answer", "[" * 900 + "1" + "]" * 900, r", column 'final_answer': \[\[.*\.\.\..* is not an answer"),
        ("topic", '1, "topic": 2', ": the key 'topic' stands twice"),
        ("final_answer", r'"\frac12"', ", column 'final_answer': holds the control character"),
    ],
)
def test_what_json_may_hold_and_no_problem_can_is_one_line(tmp_path, column, value, words):
    row = {"question": '"q"', "final_answer": "1"} | {column: value}
    (tmp_path / "a.jsonl").write_text("{" + ", ".join(f'"{name}": {text}' for name, text in row.items()) + "}")
    with pytest.raises(UserError, match=rf"a\.jsonl, row 1{words}") as error:
        load_problems(Source(str(tmp_path / "a.jsonl")), "train")
    assert "\n" not in str(error.value) and len(str(error.value)) < len(str(tmp_path)) + 220


def test_numbers_are_taken_as_they_are_written(tmp_path):
    numbers = ["1e3", "0.30000000000000004", "12345678901234567890123.50", "-0.0", "1E-7"]
    rows = [f'{{"question": "q", "final_answer": {number}, "difficulty": {number}}}' for number in numbers]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    problems = load_problems(Source(str(tmp_path / "a.jsonl")), "b")
    answers = ["1000", "0.30000000000000004", "12345678901234567890123.5", "0", "0.0000001"]
    assert [problem.final_answer for problem in problems] == answers
    assert [problem.difficulty for problem in problems] == [float(number) for number in numbers]


def parquet_of(path, answers, names=("question", "final_answer")):
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_arrays([pyarrow.array(["q"] * len(answers)), *[answers] * (len(names) - 1)], names=names)
    parquet.write_table(table, path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda pa: pa.array([b"\xff"]), r"row 1, column 'final_answer': b'\\xff' is not an answer"),
        (lambda pa: pa.array([0], pa.date32()), r"row 1, column 'final_answer': datetime.date\(1970.*is not an answer"),
        (lambda pa: pa.array([2**31 - 1], pa.date32()), "column 'final_answer': not readable as Parquet: "),
        (lambda pa: pa.array([{"value": 5}]), "row 1, column 'final_answer': {'value': 5} is not an answer"),
        (lambda pa: pa.array([[[1]]]), r"row 1, column 'final_answer': \[1\] is not an answer"),
        (lambda pa: pa.array([True]), "row 1, column 'final_answer': true is not an answer"),
        (lambda pa: pa.nulls(1), "row 1, column 'final_answer': null is not an answer"),
        (lambda pa: pa.array([float("nan")]), "row 1, column 'final_answer': nan is not a number"),
        (
            lambda pa: pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers()),
            "column 'final_answer': not readable as Parquet: 'utf-8'",
        ),
    ],
)
def test_what_parquet_may_hold_and_no_answer_can_is_one_line(tmp_path, make, words):
    import pyarrow

    parquet_of(tmp_path / "a.parquet", make(pyarrow))
    with pytest.raises(UserError, match=rf"a\.parquet, {words}") as error:
        load_problems(Source(str(tmp_path / "a.parquet")), "train")
    assert "\n" not in str(error.value)


def test_a_column_that_stands_twice_is_refused(tmp_path):
    import pyarrow

    parquet_of(tmp_path / "a.parquet", pyarrow.array(["5"]), ("question", "final_answer", "final_answer"))
    with pytest.raises(UserError, match=r"a\.parquet: the column 'final_answer' stands twice"):
        load_problems(Source(str(tmp_path / "a.parquet")), "train")


def test_decimals_and_lists_of_a_parquet_file_are_answers(tmp_path):
    import pyarrow

    for answers, taken in ((pyarrow.array([Decimal("72.00")]), "72"), (pyarrow.array([[1.5, 2.0]]), "1.5, 2")):
        parquet_of(tmp_path / "a.parquet", answers)
        assert load_problems(Source(str(tmp_path / "a.parquet")), "train")[0].final_answer == taken


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
        (
            "a.jsonl",
            gzip.compress(b'{"question": "q", "final_answer": "1"}\n', mtime=0),
            "UTF-8.*save it as one, not compressed",
        ),
        ("a.jsonl", '{"question": "q", "final_answer": "1"}\n'.encode("utf-16"), "UTF-8.*save it as one"),
        ("a.jsonl", b"question,final_answer\nq,1\n", "row 1: not valid JSON"),
        ("a.jsonl", b"\0" * 9, "row 1: not valid JSON"),
        ("a.jsonl", b'{"a\\nb": 1}', "row 1: no column 'question' .*there are a b: map it"),
        ("a.json", b"[" * 100_000, "a.json: nested too deeply"),
        ("a.json", b"NaN", "list of objects"),
        ("a.json", b"{}", "list of objects"),
        ("a.parquet", b"PAR", "not readable as Parquet"),
        ("a.parquet", b'{"question": "q"}\n', "not readable as Parquet.*write the file anew, or as .jsonl"),
        ("a.parquet", b"PAR1" + bytes(99) + b"PAR1", "not readable as Parquet"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        load_problems(Source(str(tmp_path / name)), "train")
    assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x.jsonl", "a" * 300 + ".jsonl"])
def test_a_path_that_cannot_be_looked_up_is_named(path):
    with pytest.raises(UserError, match=rf"{path[:20]}.* cannot be looked up \(.*\): name another file or hub id"):
        load_problems(Source(path), "train")


def test_a_pipe_is_no_source(tmp_path):
    """It could be read once, and would be waited for."""
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match=r"a\.jsonl is no regular file.*data\.train\.path"):
        load_problems(Source(str(tmp_path / "a.jsonl")), "train")


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
    scripts = RuntimeError("Dataset scripts are no longer supported")
    for failure in (
        scripts,
        ConnectionError("Couldn't\nreach it"),
        ValueError("Unknown split 'trian'"),
        FileNotFoundError(),
    ):
        hub(failure)
        with pytest.raises(UserError, match=r"zwhe99/DeepMath-103K .*cannot be loaded: .*data\.train\.path") as error:
            load_problems(Source("zwhe99/DeepMath-103K", revision=SHA), "train")
        assert "\n" not in str(error.value)
