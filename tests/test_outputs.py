"""Outputs: whole or absent, nobody else's, and refused before the work where they cannot be written."""

import errno
import os
from pathlib import Path

import pytest

from replication.errors import UserError
from replication.outputs import check_file_output, check_output, output_folder, write_whole


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


def test_a_folder_that_cannot_be_replaced_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^\. is the folder that the command runs in, .*: name a folder in it by"):
        check_output(Path(), "mark")
    with pytest.raises(UserError, match=r"^/proc is a disk of its own, .*: name a folder in it by --out"):
        check_output(Path("/proc"), "mark")


@pytest.fixture
def full(monkeypatch):
    """A disk without room for a file."""

    def fail(path, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", fail)


def test_a_place_that_cannot_be_written_is_known_before_the_work(tmp_path, full):
    (tmp_path / "file").touch()
    for out, reason in ((tmp_path / "out", "No space left on device"), (tmp_path / "file/out", "Not a directory")):
        with pytest.raises(UserError, match=f"/out cannot be written: {reason}: choose another place by --out"):
            check_output(out, "mark")
        with pytest.raises(UserError, match=f"/out cannot be written: {reason}: name another file by --trace"):
            check_file_output(out, "--trace")
    with pytest.raises(UserError, match="cannot be written: File name too long"):
        check_output(tmp_path / ("x" * 300), "mark")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_look_ahead_leaves_nothing(tmp_path):
    check_output(tmp_path / "deep/out", "mark")
    check_file_output(tmp_path / "deep/out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_no_output_takes_the_place_of_a_device_or_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/null")):
        with pytest.raises(UserError, match=f"--out {path} is a device, a pipe or a socket"):
            write_whole(path, "text")
        with pytest.raises(UserError, match=f"{path} is a file, not a folder"), output_folder(path, "mark"):
            pass
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "link").is_symlink() and Path("/dev/null").is_char_device()


def test_links_are_followed(tmp_path):
    for name in ("file", "folder"):
        (tmp_path / f"to-{name}").symlink_to(tmp_path / "disk" / name)  # of which there is nothing yet
    for text in ("first", "second"):
        write_whole(tmp_path / "to-file", text)
        with output_folder(tmp_path / "to-folder", "mark") as new:
            (new / "mark").write_text(text)
    assert (tmp_path / "to-file").is_symlink() and (tmp_path / "disk/file").read_text() == "second"
    assert (tmp_path / "to-folder").is_symlink() and (tmp_path / "disk/folder/mark").read_text() == "second"
    assert {p.name for p in (tmp_path / "disk").iterdir()} == {"file", "folder"}


def test_a_file_that_is_not_written_whole_leaves_the_one_before(tmp_path, full):
    path = tmp_path / "page.html"
    path.write_bytes(b"old")
    with pytest.raises(UserError, match=r"page\.html cannot be written: No space left"):
        write_whole(path, "new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_written_files_are_as_readable_as_any(tmp_path):
    write_whole(tmp_path / "a", "text")
    (tmp_path / "b").write_text("text")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode
