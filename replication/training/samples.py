"""A few completions of a step as people read them, with what was erased, for the logger of a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from replication.rollout.trace import Rollout

SHOWN = 4  # completions of a step
COLUMNS = ["step", "prompt", "completion", "right", "tokens", "erased tokens"]


def sample_rows(step: int, rollout: Rollout, correct: Tensor, tokenizer: Any) -> list[list[Any]]:
    """The first completions of a rollout, a row each as `COLUMNS` say.

    Args:
        step: counted from 1.
        rollout: of P groups of G.
        correct: [P, G] verdicts.
        tokenizer: turns ids into text.

    Returns:
        Rows whose completions have each erased attempt where it stood, as `~~text~~`.
    """
    erased, right = rollout.erased_tokens.tolist(), correct.flatten().tolist()
    rows = []
    for row in range(min(SHOWN, len(rollout.length))):
        parts = []
        for n in range(int(rollout.segments[row])):
            tries = [a.tokens for a in rollout.attempts if (a.row, a.segment) == (row, n)]
            parts += [f"~~{tokenizer.decode(ids)}~~" for ids in tries]
            parts.append(
                tokenizer.decode(rollout.tokens[row, rollout.start[row, n] : rollout.start[row, n + 1]].tolist())
            )
        prompt = tokenizer.decode(rollout.prompts[row // rollout.group_size])
        rows.append([step, prompt, "".join(parts), bool(right[row]), int(rollout.length[row]), erased[row]])
    return rows


def log_samples(loggers: Iterable[Any], rows: list[list[Any]]) -> None:
    """Hand the rows to each logger in its own way: a table of W&B, a text of TensorBoard, a file beside DVCLive's."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table("samples", columns=COLUMNS, data=rows)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("samples", as_markdown(rows), rows[0][0])
        else:
            (Path(logger.experiment.dir) / "samples.md").write_text(as_markdown(rows) + "\n", encoding="utf-8")


def as_markdown(rows: list[list[Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [[" ".join(str(cell).replace("|", "\\|").split()) for cell in row] for row in [COLUMNS, *rows]]
    lines.insert(1, ["---"] * len(COLUMNS))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
