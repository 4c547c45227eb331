"""`python -m experiments.study.report`: reports/study.md, study.json and figures from the cells that are there."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from replication.errors import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the study's page from its cells.")
    parser.add_argument("--cells", type=Path, default=Path("reports/study"))
    parser.add_argument("--out", type=Path, default=Path("reports"))
    arguments = parser.parse_args()

    from experiments.study.compare import read
    from experiments.study.figures import curves
    from experiments.study.page import page, summary

    tasks = read(arguments.cells)
    figures = arguments.out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        if task.arms:
            curves(task, figures / f"study_{task.name}.png")
    (arguments.out / "study.md").write_text(page(tasks))
    (arguments.out / "study.json").write_text(json.dumps(summary(tasks), indent=2) + "\n")
    print(f"{sum(len(task.arms) for task in tasks)} cells of {len(tasks)} tasks -> {arguments.out / 'study.md'}")


if __name__ == "__main__":
    run_command(main)
