"""`python -m experiments.study.report`: reports/study.md, study.json and figures from the cells that are there."""

from __future__ import annotations

import json
from pathlib import Path

from replication.errors import Parser, run_command


def main() -> None:
    parser = Parser(description="Write the study's page from its cells.")
    parser.add_argument("--cells", type=Path, default=Path("reports/study"))
    parser.add_argument("--out", type=Path, default=Path("reports"))
    arguments = parser.parse_args()

    from experiments.study.compare import read
    from experiments.study.figures import curves
    from experiments.study.page import page, summary

    tasks = read(arguments.cells)
    texts = {"study.md": page(tasks), "study.json": json.dumps(summary(tasks), indent=2) + "\n"}
    figures = arguments.out / "study_figures"
    figures.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        if task.arms:
            curves(task, figures / f"{task.name}.png")
    for name, text in texts.items():
        partial = arguments.out / f"{name}.partial"
        partial.write_text(text)
        partial.replace(arguments.out / name)
    print(f"{sum(len(task.arms) for task in tasks)} cells of {len(tasks)} tasks -> {arguments.out / 'study.md'}")


if __name__ == "__main__":
    run_command(main)
