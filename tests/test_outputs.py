"""Output folders: whole or absent, and nobody else's."""

import pytest

from replication.errors import UserError
from replication.outputs import output_folder


def test_replaces_an_earlier_output_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    for name in ("first", "second"):
        with output_folder(out, "mark") as new:
            (new / "mark").write_text("")
            (new / name).write_text("")
    assert {p.name for p in out.iterdir()} == {"mark", "second"}
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_a_failure_leaves_the_earlier_output_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    with output_folder(out, "mark") as new:
        (new / "mark").write_text("old")
    with pytest.raises(RuntimeError), output_folder(out, "mark") as new:
        (new / "mark").write_text("new")
        raise RuntimeError
    assert (out / "mark").read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_foreign_folders_and_files_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds something else"), output_folder(tmp_path, "mark"):
        pass
    with pytest.raises(UserError, match="is a file"), output_folder(tmp_path / "thesis.tex", "mark"):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
