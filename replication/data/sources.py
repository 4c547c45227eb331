"""Problems read from a hub data set at a pinned commit or from a local file, checked row by row."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication.config import Source
from replication.errors import UserError

REQUIRED = ("question", "final_answer")
OPTIONAL = ("difficulty", "topic", "tolerance")
SUFFIXES = (".jsonl", ".json", ".parquet")

Row = dict[str, Any]


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


def load_problems(source: Source, name: str) -> list[Problem]:
    """All problems of a source, in its order.

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
    elif path.suffix == ".parquet":
        rows = _parquet_rows(path, columns)
    else:
        rows = _json_rows(path, columns)
    problems = [_problem(row, columns, f"{source.path}, row {i}", f"{name}-{i}") for i, row in enumerate(rows, 1)]
    if not problems:
        raise UserError(f"{source.path} holds no problems: correct data.{_key(name)}")
    return problems


def local_file(source: Source) -> Path | None:
    """The file that a source names, or None where it names a hub data set."""
    path = Path(source.path).expanduser()
    if path.is_dir():
        raise UserError(f"{source.path} is a folder: name the {' or '.join(SUFFIXES)} file in it")
    if path.suffix in SUFFIXES:
        return path
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", source.path):
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
            known = ", ".join(there)
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
    except (*unreachable, ValueError, DatasetsError) as error:
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

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=_present(columns, file.schema_arrow.names, str(path))):
                yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path} is not a readable Parquet file: {' '.join(str(error).split())}") from None


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
                    raise UserError(f"{path}, row {i}: {str(value)[:40]!r} is not an object with columns")
                _present(columns, value, f"{path}, row {i}")
                yield value
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable UTF-8 text file: {error}") from None


def _parse(text: str, where: str) -> Any:
    if not text.strip():
        raise UserError(f"{where}: empty, where JSON must stand: delete or fill it")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error}") from None


def _problem(row: Row, columns: dict[str, str], where: str, id: str) -> Problem:
    """One row, checked; `where` is its file and row number."""
    question, answer, difficulty, topic, tolerance = (row.get(columns[ours]) for ours in (*REQUIRED, *OPTIONAL))
    return Problem(
        id=id,
        question=_text(question, f"{where}, column {columns['question']!r}", "a question").strip(),
        final_answer=_answer(answer, f"{where}, column {columns['final_answer']!r}"),
        difficulty=_number(difficulty, f"{where}, column {columns['difficulty']!r}"),
        topic="" if topic is None else str(topic),
        tolerance=_tolerance(tolerance, f"{where}, column {columns['tolerance']!r}"),
    )


def _text(value: Any, where: str, what: str) -> str:
    """A string that is not empty and can be encoded."""
    if not isinstance(value, str):
        raise UserError(f"{where}: {str(value)[:40]!r} is not {what} (text): correct or drop the row")
    if not value.strip():
        raise UserError(f"{where}: empty, where {what} must stand: correct or drop the row")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: holds half of a surrogate pair, which is no character: correct the row") from None
    return value


def _tolerance(value: Any, where: str) -> float | None:
    """The error allowed, or None; of several, one an answer, the smallest."""
    each = value.split(",") if isinstance(value, str) and value.strip() else [value]
    found = [number for part in each if (number := _number(part, where)) is not None]
    if any(number < 0 for number in found):
        raise UserError(f"{where}: {value!r} is negative: correct the row")
    return min(found, default=None)


def _number(value: Any, where: str) -> float | None:
    """A difficulty or tolerance, or None where the row has none."""
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(f"{where}: {value!r} is not a number: correct the row, or drop the column") from None
    return None if math.isnan(number) else number


def _answer(value: Any, where: str) -> str:
    """An answer as text: a whole number in digits, several answers joined by ", "."""
    if isinstance(value, str):
        value = _listed(value)
    if isinstance(value, list):
        if not value:
            raise UserError(f"{where}: an empty list, where an answer must stand: correct or drop the row")
        return ", ".join(_answer(each, where) for each in value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    elif isinstance(value, float) and math.isfinite(value):
        value = str(int(value)) if value.is_integer() else repr(value)
    text = _text(value, where, "an answer").strip()
    within = re.fullmatch(r"\$+([^$]*[^$\\])\$+", text)
    return _text(within[1], where, "an answer").strip() if within else text


def _listed(text: str) -> str | list[str]:
    """The strings in a text such as "['2']" (OlympiadBench on the hub); any other text, [0, 1] say, as it is."""
    if not text.strip().startswith(("['", '["')):
        return text
    try:
        parsed = ast.literal_eval(text.strip())
    except (SyntaxError, ValueError):
        return text
    return parsed if isinstance(parsed, list) and all(isinstance(each, str) for each in parsed) else text
