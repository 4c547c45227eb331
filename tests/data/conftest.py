"""Small sources of DeepMath's schema, written where a test asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Rows = list[dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Rows], str]:
    """Writes rows to a .jsonl, .json or .parquet file and returns its path."""

    def write_rows(name: str, rows: Rows) -> str:
        path = tmp_path / name
        if path.suffix == ".parquet":
            import pyarrow
            from pyarrow import parquet

            parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        elif path.suffix == ".json":
            path.write_text(json.dumps(rows))
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write_rows


@pytest.fixture
def deepmath() -> Rows:
    """Three rows with all of DeepMath's columns."""
    return [
        {
            "question": f"What is ${i} + {i}$?",
            "final_answer": str(2 * i),
            "difficulty": 4.5 + i,
            "topic": "Mathematics -> Algebra",
            "r1_solution_1": "long",
            "r1_solution_2": "longer",
            "r1_solution_3": "longest",
        }
        for i in range(3)
    ]
