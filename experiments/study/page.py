"""The text of reports/study.md; every number in it is computed from the cells."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.study.ablations import ablations, choices
from experiments.study.arms import CHOICES, planned
from experiments.study.compare import (
    Arm,
    Task,
    at_equal_steps,
    at_equal_tokens,
    best_of_several,
    best_temperature,
    of_several,
)
from experiments.study.regimes import RIVALS, in_short, where_it_pays
from experiments.study.words import accuracy, signed
from replication.evaluation.statistics import seed_interval
from replication.reporting.page import markdown_table

OPENING = """# Study: where erasing pays

Written by `python -m experiments.study.report` from the cells in reports/study;
[experiments/study](../experiments/study/README.md) says how to rerun it and what the tasks are. A 0.3M-parameter Qwen3,
{seeds} seeds, each with a warm start of its own, 20 steps of 16 prompts x 16 completions, 256 held-out problems x 16
samples. Intervals are 95 %, Student's t over the seeds, paired by seed (and so by warm start) for differences. *Plain*
has erasure off, *erased* on, with the algorithm's own erasure settings. *Equal tokens*: plain held-out accuracy when
both have generated as many tokens, erased ones counted; after 20 steps some curves still rise (see the figures), and a
difference says who is ahead by then, not who ends higher. The warm starts are those before version 0.6.0 (attention
heads of 24, a constant learning rate): of the same seed another processor makes another one. `e3rl` is the letter of
the paper as we reconstruct it; everything with a suffix is an ablation or ours."""


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
    ]
    rows = []
    for name in [name for name in planned(task.name) if name in task.arms]:
        arm = task.arms[name]
        gains = [
            "" if rival is None or arm is rival else signed(compare(arm, rival))
            for rival, compare in ((grpo, at_equal_steps), (grpo, at_equal_tokens), (cool, at_equal_tokens))
        ]
        spent = f"{arm.tokens.mean() / 1e6:.2f}"
        rates = [f"{rate:.2f}" for rate in (arm.silent, arm.erasure_rate)]
        rows.append([name, spent, accuracy(arm.plain), accuracy(arm.erased), *gains, *rates])
    return f"### Training\n\n{markdown_table(header, rows)}\n\n![Held-out accuracy](study_figures/{task.name}.png)"


def sampling(task: Task) -> str:
    """The untrained policies under every sampling setting."""
    if not task.settings:
        return ""
    best = best_temperature(task)
    header = [
        "sampling",
        "tokens a sample",
        "Avg@16",
        "minus plain",
        f"minus best temperature ({best.replace('_', ' ')})",
    ]
    header += ["best-of-n of plain at as many tokens", "majority of plain at as many tokens"]
    rows = []
    for name in (n for n in task.settings[0] if n.removeprefix("erased_") not in CHOICES):
        right, tokens = task.untrained(name), task.untrained(name, "tokens")
        rows.append(
            [name.replace("_", " "), f"{tokens.mean():.1f}", accuracy(right)]
            + [signed(seed_interval(right - task.untrained(other))) for other in ("plain", best)]
            + [f"{of_several(task, 'plain', kind, tokens).mean():.3f}" for kind in ("best", "majority")]
        )
    budget, votes = task.untrained("erased", "tokens") * 4, []
    for kind in ("majority", "best"):
        coolest, reached = best_of_several(task, kind, budget)
        votes.append(
            f"{kind}: erased {of_several(task, 'erased', kind, budget).mean():.3f}, plain "
            f"{of_several(task, 'plain', kind, budget).mean():.3f}, of all temperatures {reached.mean():.3f} "
            f"({coolest.replace('_', ' ')})"
        )
    return (
        "### Sampling the untrained policies\n\nAUC of U for the first wrong segment within its group: "
        + ", ".join(f"{reading} {accuracy(value)}" for reading, value in task.auc.items())
        + f".\n\n{markdown_table(header, rows)}\n\nFour erased samples against as many tokens of others: "
        + "; ".join(votes)
        + ". Best-of-n needs to know the right answer."
    )


def page(tasks: Sequence[Task]) -> str:
    """The whole page."""
    parts = [opening(tasks), in_short(tasks), where_it_pays(tasks), ablations(tasks), choices(tasks)]
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
    for rival in (*RIVALS, "e3rl"):
        if rival in task.arms and rival != arm.name:
            found[f"minus_{rival}_equal_steps"] = at_equal_steps(arm, task.arms[rival])
            found[f"minus_{rival}_equal_tokens"] = at_equal_tokens(arm, task.arms[rival])
    return {name: interval._asdict() for name, interval in found.items()}
