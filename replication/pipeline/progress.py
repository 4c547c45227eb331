"""One line of progress for all stages together, from what each says of itself in its log."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TextIO

from replication.pipeline.stages import Stage

BAR = re.compile(r"(\d+)%\|.*?\[(?:(\d+):)?(\d+):(\d+)<")  # tqdm's: percent, and the time it has taken
TAIL = 64 * 1024  # bytes of a log's end that are read
EVERY = 30.0  # seconds between two lines where the line cannot be redrawn


def bars_of(text: str) -> list[tuple[int, float]]:
    """(seconds, share done) of each progress bar's state in a log, in order."""
    found = []
    for percent, hours, minutes, seconds in BAR.findall(text):
        found.append((3600 * int(hours or 0) + 60 * int(minutes) + int(seconds), int(percent) / 100))
    return found


def share_done(log: Path) -> float:
    """How far a stage is: by the bar that has taken the longest, as short ones come before and after it."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        bars = bars_of(file.read().decode(errors="replace"))
    longest = max((seconds for seconds, _ in bars), default=0)
    return next((share for seconds, share in reversed(bars) if seconds == longest), 0.0)


def last_words(log: Path, count: int = 15) -> list[str]:
    """The last lines of a log, without progress bars and blank lines."""
    lines = re.split(r"[\r\n]+", log.read_text(encoding="utf-8", errors="replace"))
    return [line for line in lines if line.strip() and not re.search(r"\d+%\||\| \d+/\? \[", line)][-count:]


def duration(seconds: float) -> str:
    """A time to read: 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def work_of(stages: Sequence[Stage]) -> dict[str, float]:
    """The weight of each stage: its seconds where dvc.yaml has all of them, else all weigh the same."""
    known = all(stage.seconds is not None for stage in stages)
    return {stage.name: float(stage.seconds or 0.0) if known else 1.0 for stage in stages}


def forecast(stages: Sequence[Stage], jobs: int) -> float | None:
    """Seconds that the stages would take, some at a time, where dvc.yaml was written; None where it does not say."""
    if not stages or any(stage.seconds is None for stage in stages):
        return None
    work = work_of(stages)
    longest: dict[str, float] = {}  # of the chain of stages that ends with this one
    for stage in stages:
        longest[stage.name] = work[stage.name] + max((longest.get(name, 0.0) for name in stage.needs), default=0.0)
    return max(sum(work.values()) / jobs, *longest.values())


class Progress:
    """Shows how far the stages are: redrawn on a terminal, else a line now and then."""

    def __init__(self, stages: Sequence[Stage], logs: Path, out: TextIO = sys.stdout):
        self.stages, self.logs, self.out = stages, logs, out
        self.work = work_of(stages)
        self.began = self.shown = time.monotonic()
        self.live = out.isatty()

    def line(self, done: Collection[str], running: Collection[str]) -> str:
        """Stages done of all, percent, time left, and what runs now."""
        shares = {name: share_done(self.logs / f"{name}.log") for name in running}
        total = sum(self.work.values())
        so_far = sum(self.work[name] for name in done) + sum(self.work[name] * share for name, share in shares.items())
        share = so_far / total if total else 0.0
        left = ""
        if share >= 0.02:
            left = f", about {duration((time.monotonic() - self.began) * (1 - share) / share)} left"
        now = ", ".join(f"{name} {part:.0%}" for name, part in shares.items())
        return f"{len(done)} of {len(self.stages)} stages, {share:.0%}{left} | {now}"

    def show(self, done: Collection[str], running: Collection[str]) -> None:
        """Show the line, if it is time."""
        now = time.monotonic()
        if running and now - self.shown >= (1.0 if self.live else EVERY):
            self.shown = now
            line = self.line(done, running)
            if self.live:
                width = shutil.get_terminal_size().columns - 1
                self.out.write(f"\r\x1b[K{line[:width]}")
            else:
                self.out.write(line + "\n")
            self.out.flush()

    def clear(self) -> None:
        """Take the line off the terminal."""
        if self.live:
            self.out.write("\r\x1b[K")
            self.out.flush()
