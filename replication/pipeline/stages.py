"""The stages of a pipeline as DVC knows them: which wait for which, which must run, and why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication.errors import UserError


@dataclass(frozen=True)
class Stage:
    """One stage, as `dvc stage list` names it."""

    name: str
    target: str  # what `dvc repro` calls it from here
    needs: frozenset[str]  # names of the stages that must be done before
    seconds: float | None  # how long it took where dvc.yaml was written, from its `meta`
    changes: tuple[str, ...]  # what differs from what it last ran on; none: nothing

    @property
    def kind(self) -> str:
        """The name without its cell of the matrix."""
        return self.name.partition("@")[0]


@contextmanager
def dvc_repo(pipeline: Path) -> Iterator[Any]:
    """DVC's view of the pipeline's repository, for reading: with git or without. Its errors become `UserError`s."""
    os.environ.setdefault("DVC_SITE_CACHE_DIR", str(Path(".scratch/dvc").resolve()))  # not in /var/tmp
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with Repo(str(pipeline.parent), config={"core": {"no_scm": True}}) as repo:
            yield repo
    except (DvcException, SCMError) as error:
        raise UserError(f"DVC cannot read {pipeline}: {' '.join(str(error).split())}") from None


def read_stages(pipeline: Path) -> list[Stage]:
    """Every stage of the pipeline, in the order of the file."""
    from dvc.repo.graph import build_graph

    with dvc_repo(pipeline) as repo:
        found = list(repo.stage.collect(str(pipeline)))
        graph = build_graph(found)
        status = repo.status(targets=[str(pipeline)])
        return [
            Stage(
                name=stage.name,
                target=stage.addressing,
                needs=frozenset(other.name for other in graph.successors(stage)),
                seconds=(stage.meta or {}).get("seconds"),
                changes=tuple(f"{path} {what}".strip() for path, what in changes(status.get(stage.addressing, []))),
            )
            for stage in found
        ]


def changes(status: list[Any]) -> list[tuple[str, str]]:
    """(path or key, what happened) of one stage of DVC's status."""
    found = []
    for change in status:
        if not isinstance(change, dict):
            found.append((str(change), ""))  # "changed command"
            continue
        for entries in change.values():
            for path, what in entries.items():
                keys = what.items() if isinstance(what, dict) else [("", what)]  # the keys of params.yaml
                found += [(f"{path}: {key}" if key else path, str(word)) for key, word in keys]
    return found


def due(stages: list[Stage]) -> list[Stage]:
    """The stages that changed, and all that come after one of them."""
    names: set[str] = set()
    before = -1
    while len(names) != before:
        before = len(names)
        names |= {stage.name for stage in stages if stage.changes or stage.needs & names}
    return [stage for stage in stages if stage.name in names]


def take_in(pipeline: Path) -> int:
    """Copy into DVC's cache what it lacks though it lies whole in the workspace: else DVC would make it again.

    Returns:
        How many outputs these were.
    """
    count = 0
    with dvc_repo(pipeline) as repo, repo.lock:
        for stage in repo.stage.collect(str(pipeline)):
            for out in stage.outs:
                lacking = out.use_cache and out.hash_info and out.changed_cache()
                if lacking and out.exists and not out.changed_checksum():
                    out.commit(relink=False)
                    count += 1
    return count


def has_git(folder: Path) -> bool:
    """Whether the folder is in a git repository: a ZIP of it is not."""
    from dvc.scm import SCM, SCMError

    try:
        SCM(str(folder))
    except SCMError:
        return False
    return True


def use_git_or_not(folder: Path) -> None:
    """Tell DVC, in its own settings of this folder, whether there is git here."""
    without = not has_git(folder)
    with dvc_repo(folder / "dvc.yaml") as repo:
        if repo.config.read("local").get("core", {}).get("no_scm", False) != without:
            with repo.config.edit("local") as settings:
                settings["core"]["no_scm"] = without
