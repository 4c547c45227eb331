"""The text of reports/study.md; every number in it is computed from the cells."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.study.ablations import ablations
from experiments.study.arms import CONTROLS, EXTENSIONS, planned
from experiments.study.compare import Arm, Task, at_equal_steps, at_equal_tokens, best_temperature, of_several
from experiments.study.words import accuracy, answer, signed
from replication.evaluation.statistics import seed_interval
from replication.reporting.page import markdown_table

OPENING = """# Study: where erasing pays

Written by `python -m experiments.study.report` from the cells in reports/study;
[experiments/study](../experiments/study/README.md) says how to rerun it and what the tasks are. A 0.3M-parameter Qwen3,
{seeds} seeds, each with a warm start of its own, 20 steps of 16 prompts x 16 completions, 256 held-out problems x 16
samples. Intervals are 95 %, Student's t over the seeds, paired by seed (and so by warm start) for differences. *Plain*
has erasure off, *erased* on, with the algorithm's own erasure settings. *Equal tokens*: plain held-out accuracy when
both have generated as many tokens, erased ones counted. `e3rl` is the letter of the paper as we reconstruct it;
everything with a suffix is an ablation or ours."""


def opening(tasks: Sequence[Task]) -> str:
    """What was run, and how to read it."""
    seeds = {len(arm.plain) for task in tasks for arm in task.arms.values()}
    text = [OPENING.format(seeds="/".join(map(str, sorted(seeds))))]
    for task in tasks:
        missing = [name for name in planned(task.name) if name not in task.arms]
        if missing:
            text.append(f"**Not run on {task.name}:** {', '.join(missing)}.")
        if not task.settings:
            text.append(f"**Not run on {task.name}:** sampling of the untrained policies.")
    return "\n\n".join(text)


def training(task: Task) -> str:
    """The trained arms of one task."""
    grpo, cool = task.arms.get("grpo"), task.arms.get("grpo_cool")
    header = ["algorithm", "M tokens", "Avg@16 plain", "Avg@16 erased", "minus grpo, equal steps"]
    header += [
        "minus grpo, equal tokens",
        "minus grpo_cool, equal tokens",
        "groups without signal",
        "erasure rate",
        "acceptance",
    ]
    rows = []
    for name in [name for name in planned(task.name) if name in task.arms]:
        arm = task.arms[name]
        gains = [
            "" if rival is None or arm is rival else signed(compare(arm, rival))
            for rival, compare in ((grpo, at_equal_steps), (grpo, at_equal_tokens), (cool, at_equal_tokens))
        ]
        spent = f"{arm.tokens.mean() / 1e6:.2f}"
        rates = [f"{rate:.2f}" for rate in (arm.silent, arm.erasure_rate, arm.acceptance)]
        rows.append([name, spent, accuracy(arm.plain), accuracy(arm.erased), *gains, *rates])
    return f"### Training\n\n{markdown_table(header, rows)}\n\n![Held-out accuracy](figures/study_{task.name}.png)"


def sampling(task: Task) -> str:
    """The untrained policies under every sampling setting."""
    if not task.settings:
        return ""
    best = best_temperature(task)
    header = ["sampling", "tokens a sample", "Avg@16", "minus plain", f"minus {best.replace('_', ' ')}"]
    header += ["best-of-n of plain at as many tokens", "majority of plain at as many tokens"]
    rows = []
    for name in task.settings[0]:
        right, tokens = task.untrained(name), task.untrained(name, "tokens")
        rows.append(
            [name.replace("_", " "), f"{tokens.mean():.1f}", accuracy(right)]
            + [signed(seed_interval(right - task.untrained(other))) for other in ("plain", best)]
            + [f"{of_several(task, 'plain', kind, tokens).mean():.3f}" for kind in ("best", "majority")]
        )
    found = {name: task.untrained("erased", "tokens") * 4 for name in ("majority", "best")}
    votes = [
        f"{kind}: erased {of_several(task, 'erased', kind, budget).mean():.3f}, plain "
        f"{of_several(task, 'plain', kind, budget).mean():.3f}, {best.replace('_', ' ')} "
        f"{of_several(task, best, kind, budget).mean():.3f}"
        for kind, budget in found.items()
    ]
    return (
        "### Sampling the untrained policies\n\nAUC of U for the first wrong segment within its group: "
        + ", ".join(f"{reading} {accuracy(value)}" for reading, value in task.auc.items())
        + f".\n\n{markdown_table(header, rows)}\n\nFour erased samples against as many tokens of others: "
        + "; ".join(votes)
        + ". Best-of-n needs to know the right answer."
    )


def regimes(tasks: Sequence[Task]) -> str:
    """Where erasing pays, task by task."""
    header = ["does it pay", *(task.name for task in tasks)]
    lines: list[list[str]] = []

    def line(what: str, cells: list[str]) -> None:
        lines.append([what, *cells])

    def trained(what: str, name: str, rival: str, tokens: bool, mode: str = "plain") -> None:
        cells = []
        for task in tasks:
            arm, other = task.arms.get(name), task.arms.get(rival)
            if arm is None or other is None:
                cells.append("not run")
                continue
            gain = at_equal_tokens(arm, other) if tokens else at_equal_steps(arm, other, mode)
            cells.append(f"{answer(gain)}: {signed(gain)}")
        line(what, cells)

    def several(kind: str) -> None:
        cells = []
        for task in tasks:
            if not task.settings:
                cells.append("not run")
                continue
            budget = 4 * task.untrained("erased", "tokens")
            rivals = [of_several(task, name, kind, budget) for name in ("plain", best_temperature(task))]
            gain = seed_interval(of_several(task, "erased", kind, budget) - max(rivals, key=lambda r: r.mean()))
            cells.append(f"{answer(gain)}: {signed(gain)}")
        line(f"sampling: {kind} of four erased against {kind} of the best temperature at equal tokens", cells)

    def untrained(what: str, rival: str, setting: str = "erased") -> None:
        cells = []
        for task in tasks:
            if not task.settings or setting not in task.settings[0]:
                cells.append("not run")
                continue
            mine, tokens = task.untrained(setting), task.untrained(setting, "tokens")
            if rival == "temperature":
                theirs = task.untrained(best_temperature(task))
            elif rival == "plain":
                theirs = task.untrained("plain")
            else:
                theirs = of_several(task, "plain", rival, tokens)
            gain = seed_interval(mine - theirs)
            cells.append(f"{answer(gain)}: {signed(gain)}")
        line(what, cells)

    tried = [name for task in tasks for name in (task.settings[0] if task.settings else ())]
    lowest = min((name.split("_")[1] for name in tried if name.startswith("temperature")), default="1")
    line("untrained, plain", [accuracy(t.untrained("plain")) if t.settings else "not run" for t in tasks])
    for reading in ("surprisal", "entropy"):
        line(f"AUC of U ({reading})", [accuracy(t.auc[reading]) if t.auc else "not run" for t in tasks])
    untrained("sampling: erased against plain", "plain")
    untrained("sampling: erased against the best temperature", "temperature")
    untrained("sampling: one erased against best-of-n of plain at equal tokens", "best")
    untrained("sampling: one erased against majority of plain at equal tokens", "majority")
    untrained(
        "sampling: erased by an absolute threshold against the best temperature", "temperature", "erased_absolute"
    )
    several("majority")
    several("best")
    names = [n for n in ("e3rl", *EXTENSIONS) if any(n in task.arms for task in tasks)]
    for name in names:
        trained(f"training: {name} against grpo, equal steps, both sampled with erasure", name, "grpo", False, "erased")
        for rival in ("grpo", "grpo_cool"):
            trained(f"training: {name} against {rival}, equal steps", name, rival, False)
            trained(f"training: {name} against {rival}, equal tokens", name, rival, True)
    return (
        "## Where it pays\n\nBy the interval of the difference; plain accuracy of what is trained, if not said "
        "otherwise. "
        f"The best temperature is that of the highest accuracy; {lowest} is the lowest that was tried.\n\n"
        + markdown_table(header, lines)
    )


def judged(task: Task, name: str) -> str:
    """Whether an arm beats GRPO and its control at equal tokens: it `wins` over both, `loses` to one, or neither."""
    gains = [at_equal_tokens(task.arms[name], task.arms[rival]) for rival in ("grpo", *CONTROLS)]
    if all(gain.low > 0 for gain in gains):
        return "wins"
    return "loses" if any(gain.high < 0 for gain in gains) else "undecided"


def closing(tasks: Sequence[Task]) -> str:
    """Which extensions beat GRPO and its control, by the intervals."""
    complete = [t for t in tasks if {"grpo", *CONTROLS} <= set(t.arms)]
    if not complete:
        return "GRPO and its control have not both run on any task: nothing is concluded."
    names = [n for n in ("e3rl", *EXTENSIONS) if any(n in task.arms for task in complete)]
    rows = [[n, *(judged(t, n) if n in t.arms else "not run" for t in complete)] for n in names]
    always = [row[0] for row in rows if set(row[1:]) == {"wins"}]
    verdict = f"{', '.join(always)} beat both on every task." if always else "No arm beats both on every task."
    return (
        "Against GRPO and against its control of lower temperature, plain accuracy at equal tokens; *wins* over both, "
        f"*loses* to either:\n\n{markdown_table(['algorithm', *(t.name for t in complete)], rows)}\n\n**{verdict}**"
    )


def page(tasks: Sequence[Task]) -> str:
    """The whole page."""
    parts = [opening(tasks), regimes(tasks), closing(tasks), ablations(tasks)]
    for task in tasks:
        parts += [f"## {task.name}", training(task) if task.arms else "", sampling(task)]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(tasks: Sequence[Task]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """The page's numbers for machines: task -> arm -> metric -> mean, low, high."""
    out: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for task in tasks:
        entry = out.setdefault(task.name, {})
        for name, arm in task.arms.items():
            entry[name] = metrics(arm, task)
        for setting in task.settings[0] if task.settings else ():
            entry[f"untrained_{setting}"] = {"avg": seed_interval(task.untrained(setting))._asdict()}
    return out


def metrics(arm: Arm, task: Task) -> dict[str, dict[str, float]]:
    """The intervals of one arm."""
    found = {
        "plain": seed_interval(arm.plain),
        "erased": seed_interval(arm.erased),
        "tokens": seed_interval(arm.tokens),
    }
    for rival in ("grpo", "grpo_cool", "e3rl"):
        if rival in task.arms and rival != arm.name:
            found[f"minus_{rival}_equal_steps"] = at_equal_steps(arm, task.arms[rival])
            found[f"minus_{rival}_equal_tokens"] = at_equal_tokens(arm, task.arms[rival])
    return {name: interval._asdict() for name, interval in found.items()}
