"""The chunks of an evaluation, each a file, shared out over processes.

A process takes a chunk by locking it, and the system gives the lock back however the process ends. So processes may be
killed, and more of them may come; what is lost is what was in flight. The folder is on a disk that all of them see.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from replication.evaluation.presence import PAUSE
from replication.outputs import GO_ON, writing

Making = Generator[None, None, Iterable[str]]  # steps towards the lines of a chunk
LARGE = ("token_ids", "text")  # what no metric reads


class Queue:
    """The chunks 0 to `count` - 1.

    Args:
        folder: of their files; made if it is not there.
        count: chunks.
    """

    def __init__(self, folder: Path, count: int):
        self.folder, self.count = folder, count
        with writing(folder, "run the command in a folder that can be written"):
            folder.mkdir(parents=True, exist_ok=True)

    def file(self, index: int) -> Path:
        """Where a chunk's samples are, a line a sample, once they are all there."""
        return self.folder / f"{index:06d}.jsonl"

    def done(self) -> list[int]:
        """The chunks that are done."""
        return [index for index in range(self.count) if self.file(index).exists()]

    def fresh(self, known: Collection[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Number and samples of each chunk that is done and not known yet."""
        for index in self.done():
            if index not in known and (rows := self.rows(index)) is not None:
                yield index, rows

    @contextmanager
    def take(self) -> Iterator[int | None]:
        """A chunk that is neither done nor taken, for this process alone; None where there is none."""
        for index in range(self.count):
            if self.file(index).exists():
                continue
            with self._lock(index) as mine:
                if mine and not self.file(index).exists():  # which it may be since
                    yield index
                    return
        yield None

    def work(self, begin: Callable[[int], Making], most: int) -> Iterator[None]:
        """Make chunks, `most` at a time and in turns. One is kept as soon as it is whole. Stops whenever one is, and
        now and then; waits a little where others have all that are left.

        Args:
            begin: tells how a chunk is made, in steps of which each may let another chunk go on.
            most: chunks at a time.
        """
        held: dict[int, tuple[ExitStack, Making]] = {}
        look, stopped = True, time.monotonic()  # for a chunk that nobody has
        try:
            while True:
                while look and len(held) < most:
                    lock = ExitStack()
                    index = lock.enter_context(self.take())
                    look = index is not None
                    if index is not None:
                        held[index] = lock, begin(index)
                    else:
                        lock.close()
                for index, (lock, making) in list(held.items()):
                    try:
                        next(making)
                    except StopIteration as end:
                        self.put(index, end.value)
                        lock.close()
                        del held[index]
                        look = True
                if not held and not look:
                    time.sleep(PAUSE)
                    look = True
                if look or time.monotonic() - stopped > PAUSE:
                    yield
                    stopped = time.monotonic()
        finally:
            for lock, making in held.values():
                making.close()
                lock.close()

    @contextmanager
    def _lock(self, index: int) -> Iterator[bool]:
        with writing(self.folder, GO_ON), self.file(index).with_suffix(".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def put(self, index: int, lines: Iterable[str]) -> None:
        """Keep the samples of a chunk that was taken."""
        path = self.file(index)
        with writing(path, GO_ON):
            part = path.with_suffix(".part")
            with part.open("w", encoding="utf-8") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)

    def rows(self, index: int) -> list[dict[str, Any]] | None:
        """The samples of a chunk that is done, without what no metric reads: texts are long. None of a damaged one,
        which is dropped, so that it is sampled again."""
        path = self.file(index)
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            return [{key: value for key, value in row.items() if key not in LARGE} for row in rows]
        except (ValueError, AttributeError):
            path.unlink(missing_ok=True)
            return None

    def write_all(self, path: Path) -> None:
        """Put the chunks' lines together, in order."""
        with path.open("wb") as whole:
            for index in range(self.count):
                with self.file(index).open("rb") as file:
                    shutil.copyfileobj(file, whole)
