"""Where erasing pays and where it does not: the map over tasks, at sampling and in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.study.arms import CONTROLS, EXTENSIONS
from experiments.study.compare import (
    Task,
    at_equal_steps,
    at_equal_tokens,
    best_of_several,
    best_temperature,
    of_several,
)
from experiments.study.words import accuracy, answer, signed
from replication.evaluation.statistics import Interval, seed_interval
from replication.reporting.page import markdown_table

ARMS = ["e3rl", *EXTENSIONS]
RIVALS = ["grpo", *CONTROLS, "dapo"]


def rivals_of_one(task: Task, setting: str) -> dict[str, np.ndarray]:
    """[S] accuracy of what one erased sample is compared with: plain samples, one or several for as many tokens."""
    tokens = task.untrained(setting, "tokens")
    return {
        "plain": task.untrained("plain"),
        "the best temperature": task.untrained(best_temperature(task)),
        "best-of-n of plain at equal tokens": of_several(task, "plain", "best", tokens),
        "majority of plain at equal tokens": of_several(task, "plain", "majority", tokens),
    }


def gains_of_one(task: Task, setting: str) -> dict[str, Interval]:
    """One erased sample minus each of its rivals; empty where it was not run."""
    if not task.settings or setting not in task.settings[0]:
        return {}
    mine = task.untrained(setting)
    return {name: seed_interval(mine - theirs) for name, theirs in rivals_of_one(task, setting).items()}


def gain_of_four(task: Task, kind: str) -> Interval | None:
    """Four erased samples, voted or the best of them, minus as many tokens of plain sampling at the temperature that is
    best for that."""
    if not task.settings:
        return None
    budget = 4 * task.untrained("erased", "tokens")
    return seed_interval(of_several(task, "erased", kind, budget) - best_of_several(task, kind, budget)[1])


def gain_trained(task: Task, name: str, rival: str, what: str) -> Interval | None:
    """A trained arm minus another, plain accuracy at `equal tokens` or `equal steps`."""
    arm, other = task.arms.get(name), task.arms.get(rival)
    if arm is None or other is None:
        return None
    return (at_equal_tokens if what == "equal tokens" else at_equal_steps)(arm, other)


def judged(task: Task, name: str) -> str:
    """Whether an arm beats all rivals at equal tokens: it `wins` over each, `loses` to one, or neither."""
    gains = [gain_trained(task, name, rival, "equal tokens") for rival in RIVALS]
    if any(gain is None for gain in gains):
        return "not run"
    if all(gain.low > 0 for gain in gains if gain):
        return "wins"
    return "loses" if any(gain.high < 0 for gain in gains if gain) else "undecided"


def in_short(tasks: Sequence[Task]) -> str:
    """The map in sentences."""
    lines = []
    for setting, what in (("erased", "by the letter"), ("erased_absolute", "by an absolute threshold")):
        found = {task.name: gains_of_one(task, setting) for task in tasks}
        found = {name: gains for name, gains in found.items() if gains}
        pays = [name for name, gains in found.items() if all(gain.low > 0 for gain in gains.values())]
        loses = {
            rival: [name for name, gains in found.items() if gains[rival].high < 0]
            for rival in dict.fromkeys(rival for gains in found.values() for rival in gains)
        }
        lost = "; ".join(f"worse than {rival} on {', '.join(names)}" for rival, names in loses.items() if names)
        lines.append(
            f"- **Sampling without training, {what}:** one erased sample beats plain, the best temperature, best-of-n "
            f"and majority at equal tokens on {_listed(pays)}" + (f"; {lost}." if lost else ".")
        )
    verdicts = {(n, task.name): judged(task, n) for task in tasks for n in ARMS}
    for word in ("wins", "loses"):
        by_arm = {n: [task.name for task in tasks if verdicts[n, task.name] == word] for n in ARMS}
        told = "; ".join(f"{n} on {', '.join(names)}" for n, names in by_arm.items() if names)
        what = "beat GRPO, GRPO with a cooler half and DAPO" if word == "wins" else "lose to one of them"
        lines.append(f"- **Training, plain accuracy at equal tokens:** {what}: {told or 'none'}.")
    run = {n: [v for (arm, _), v in verdicts.items() if arm == n and v != "not run"] for n in ARMS}
    always = [n for n, words in run.items() if words and set(words) == {"wins"}]
    lines.append(f"- **On every task that it ran on, all three are beaten by:** {_listed(always)}.")
    return "## In short\n\n" + "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def where_it_pays(tasks: Sequence[Task]) -> str:
    """The map as tables: at sampling, in training, and the verdicts."""
    tried = [name for task in tasks for name in (task.settings[0] if task.settings else ())]
    temperatures = sorted({name.split("_")[1] for name in tried if name.startswith("temperature")} | {"1"})
    names = [name for name in ARMS if any(name in task.arms for task in tasks)]
    verdicts = [[name, *(judged(task, name) for task in tasks)] for name in names]
    return "\n\n".join(
        [
            "## Where it pays",
            f"By the interval of the difference. The best temperature, of {', '.join(temperatures)}, is that of the "
            "highest accuracy of what is compared: of one sample, of a vote, or of the best of several. Majority is "
            "given the tokens of the next power of two samples.",
            markdown_table(["sampling", *(task.name for task in tasks)], _sampling_rows(tasks)),
            "Against GRPO, GRPO with half of each group at temperature 0.5 (`grpo_cool`) and DAPO, plain accuracy at "
            "equal tokens; *wins* over all three, *loses* to one:",
            markdown_table(["algorithm", *(task.name for task in tasks)], verdicts),
            markdown_table(["training", *(task.name for task in tasks)], _training_rows(tasks, names)),
        ]
    )


def _sampling_rows(tasks: Sequence[Task]) -> list[list[str]]:
    rows = [["untrained, plain", *(accuracy(t.untrained("plain")) if t.settings else "not run" for t in tasks)]]
    for reading in ("surprisal", "entropy"):
        rows.append([f"AUC of U ({reading})", *(accuracy(t.auc[reading]) if t.auc else "not run" for t in tasks)])
    for setting in ("erased", "erased_absolute"):
        gains = [gains_of_one(task, setting) for task in tasks]
        what = "one erased sample" + (" by an absolute threshold" if setting == "erased_absolute" else "")
        for rival in dict.fromkeys(rival for found in gains for rival in found):
            rows.append(_row(f"{what} against {rival}", [found.get(rival) for found in gains]))
    for kind in ("majority", "best"):
        what = f"{kind} of four erased against {kind} of the best temperature at equal tokens"
        rows.append(_row(what, [gain_of_four(task, kind) for task in tasks]))
    return rows


def _training_rows(tasks: Sequence[Task], names: Sequence[str]) -> list[list[str]]:
    compared = [(rival, what) for rival in RIVALS for what in ("equal tokens", "equal steps")]
    rows = []
    for name in names:
        for rival, what in compared:
            gains = [gain_trained(task, name, rival, what) for task in tasks]
            rows.append(_row(f"{name} against {rival}, {what}", gains))
    return rows


def _row(what: str, gains: Sequence[Interval | None]) -> list[str]:
    return [what, *(f"{answer(gain)}: {signed(gain)}" if gain else "not run" for gain in gains)]
