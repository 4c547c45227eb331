"""Problems read from a hub data set at a pinned commit or from a local file, checked row by row."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from replication.config import Source
from replication.data.answers import take_answer
from replication.data.values import parse_row, read_number, read_text, read_tolerance, read_topic, shown
from replication.errors import UserError

REQUIRED = ("question", "final_answer")
OPTIONAL = ("difficulty", "topic", "tolerance")
SUFFIXES = (".jsonl", ".json", ".parquet")
EXAMPLES = 3  # answers of a source that are kept as they were published, to be shown

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with a final answer that can be checked; the columns are those of DeepMath-103K."""

    id: str
    """<name of the source>-<row in it, from 1>"""
    question: str
    final_answer: str
    difficulty: float | None = None
    topic: str = ""
    tolerance: float | None = None
    """Absolute error that a numerical answer may have (OlympiadBench's `error`), or None"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a source holds."""

    problems: list[Problem]
    """All of them, in its order"""
    published: list[Any]
    """The answers of the first ones as they were published"""


def load_source(source: Source, name: str) -> Loaded:
    """All problems of a source.

    Args:
        source: a hub data set at a pinned commit, or a .jsonl, .json (a list of objects) or .parquet file.
        name: what the source is called in the settings; the first part of each problem's id.

    Raises:
        UserError: the source cannot be read, or a row lacks a question or an answer.
    """
    columns = _columns(source, name)
    path = local_file(source)
    if path is None:
        rows = _hub_rows(source, name, columns)
    elif not path.exists():
        raise UserError(f"{path} does not exist: put the file there, or correct data.{_key(name)}.path")
    elif not path.is_file():
        raise UserError(
            f"{path} is no regular file: copy its content into one, and name that by data.{_key(name)}.path"
        )
    elif path.suffix == ".parquet":
        rows = _parquet_rows(path, columns)
    else:
        rows = _json_rows(path, columns)
    problems, published = [], []
    for i, row in enumerate(rows, 1):
        problems.append(_problem(row, columns, f"{source.path}, row {i}", name, i))
        if i <= EXAMPLES:
            published.append(row[columns["final_answer"]])
    if not problems:
        raise UserError(f"{source.path} holds no problems: correct data.{_key(name)}")
    return Loaded(problems, published)


def load_problems(source: Source, name: str) -> list[Problem]:
    """The problems of `load_source` alone."""
    return load_source(source, name).problems


def local_file(source: Source) -> Path | None:
    """The file that a source names, or None where it names a hub data set."""
    try:
        path = Path(source.path).expanduser()
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, RuntimeError) as error:  # a name too long; ~ of an unknown user
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{source.path[:80]} cannot be looked up ({reason}): name another file or hub id") from None
    if is_folder:
        raise UserError(f"{source.path} is a folder: name the {' or '.join(SUFFIXES)} file in it")
    if path.suffix in SUFFIXES:
        return path
    if is_there or not re.fullmatch(r"[\w.-]+/[\w.-]+", source.path):
        raise UserError(f"{source.path} is neither a hub id (owner/name) nor a {', '.join(SUFFIXES)} file")
    return None


def _key(name: str) -> str:
    """Where the settings of a source stand in the `data` section."""
    return name if name == "train" else f"benchmarks.{name}"


def _columns(source: Source, name: str) -> dict[str, str]:
    """Our column -> the source's."""
    unknown = sorted(source.columns.keys() - {*REQUIRED, *OPTIONAL})
    if unknown:
        known = ", ".join((*REQUIRED, *OPTIONAL))
        raise UserError(f"data.{_key(name)}.columns names {unknown[0]!r}, which is none of ours: {known}")
    return {ours: source.columns.get(ours, ours) for ours in (*REQUIRED, *OPTIONAL)}


def _present(columns: dict[str, str], there: Collection[str], where: str) -> list[str]:
    """The source's columns to read: required ones and those named in the settings must be there."""
    for ours, theirs in columns.items():
        if theirs not in there and (ours in REQUIRED or theirs != ours):
            known = " ".join(", ".join(there).split())[:200] or "none"
            raise UserError(f"{where}: no column {theirs!r} (our {ours}); there are {known}: map it by `columns`")
    return [theirs for theirs in dict.fromkeys(columns.values()) if theirs in there]


def _hub_rows(source: Source, name: str, columns: dict[str, str]) -> Iterable[Row]:
    if not re.fullmatch(r"[0-9a-f]{40}", source.revision or ""):
        found = "no revision" if source.revision is None else f"revision {source.revision!r}"
        raise UserError(
            f"hub data set {source.path} has {found}: pin its 40-digit commit by data.{_key(name)}.revision"
            " (a branch or tag can change)"
        )
    import datasets  # seconds to import, and only a hub source needs them
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    unreachable = HfHubHTTPError.__bases__  # OSError, and the error of whichever HTTP library the hub's client uses
    try:
        data = datasets.load_dataset(source.path, name=source.config, split=source.split, revision=source.revision)
    except (*unreachable, ValueError, RuntimeError, DatasetsError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        at = f"config {source.config}, split {source.split}, commit {source.revision}"
        raise UserError(
            f"hub data set {source.path} ({at}) cannot be loaded: {reason}."
            f" Check the id and the network, or give a local file by data.{_key(name)}.path"
        ) from None
    rows: Iterable[Row] = data.select_columns(_present(columns, data.column_names, source.path))
    return rows


def _parquet_rows(path: Path, columns: dict[str, str]) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    where = str(path)
    try:
        with parquet.ParquetFile(path) as file:
            there = file.schema_arrow.names
            names = _present(columns, there, where)
            if twice := [name for name in names if there.count(name) > 1]:
                raise UserError(f"{path}: the column {twice[0]!r} stands twice: rename one of the two")
            for batch in file.iter_batches(columns=names):
                values = []
                for name in names:
                    where = f"{path}, column {name!r}"
                    values.append(batch.column(name).to_pylist())
                yield from (dict(zip(names, row, strict=True)) for row in zip(*values, strict=True))
    except (OSError, pyarrow.ArrowException, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where}: not readable as Parquet: {reason}: write the file anew, or as .jsonl") from None


def _json_rows(path: Path, columns: dict[str, str]) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            if path.suffix == ".json":
                values: Iterable[Any] = _parse(file.read(), str(path))
                if not isinstance(values, list):
                    raise UserError(f"{path} holds no list of objects: call it .jsonl if it has one object a line")
            else:
                values = (_parse(line, f"{path}, row {i}") for i, line in enumerate(file, 1))
            for i, value in enumerate(values, 1):
                if not isinstance(value, dict):
                    raise UserError(f"{path}, row {i}: {shown(value)} is not an object with columns")
                _present(columns, value, f"{path}, row {i}")
                yield value
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable UTF-8 text file: {error}: save it as one, not compressed") from None


def _parse(text: str, where: str) -> Any:
    if not text.strip():
        raise UserError(f"{where}: empty, where JSON must stand: delete or fill it")
    try:
        return parse_row(text)
    except ValueError as error:
        raise UserError(f"{where}: {error}: correct or drop the row") from None


def _problem(row: Row, columns: dict[str, str], where: str, name: str, number: int) -> Problem:
    """A row, checked; `where` is its file and number."""

    def cell(ours: str, read: Callable[[Any], T]) -> T:
        try:
            return read(row.get(columns[ours]))
        except ValueError as error:
            other = f", or name another column by data.{_key(name)}.columns" if ours == "final_answer" else ""
            raise UserError(f"{where}, column {columns[ours]!r}: {error}: correct or drop the row{other}") from None

    return Problem(
        id=f"{name}-{number}",
        question=cell("question", lambda value: read_text(value, "a question").strip()),
        final_answer=cell("final_answer", take_answer),
        difficulty=cell("difficulty", read_number),
        topic=cell("topic", read_topic),
        tolerance=cell("tolerance", read_tolerance),
    )
