"""The text of reports/study.md; every number in it is computed from the cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.study.compare import Arm, Task, at_equal_steps, at_equal_tokens, best_temperature, of_several
from replication.evaluation.statistics import Interval, seed_interval, verdict
from replication.reporting.page import markdown_table

BASELINES = ["grpo", "dr_grpo", "dapo", "gspo", "sapo"]
CONTROLS = ["grpo_cool"]
EXTENSIONS = ["e3rl_mixed", "e3rl_contrastive", "e3rl_mixed_absolute", "e3rl_contrastive_absolute", "e3rl_floor"]
EXTENSIONS += ["e3rl_batch_baseline", "e3rl_running_baseline", "e3rl_acceptance"]
ABLATIONS = {  # what is taken from the letter -> the paper's name of it; the sampling setting has the same suffix
    "no_base": "without base uncertainty",
    "max_only": "extreme deviation only",
    "rise_only": "gradient anomaly only",
    "fixed": "without group dynamics",
    "frequency_only": "frequency penalty only",
    "uniform": "without causal allocation",
    "cap_1": "Erase@1",
    "cap_3": "Erase@3",
    "segments_short": "segments of 3 tokens",
    "segments_long": "segments of 9 tokens",
    "segments_longest": "segments of 21 tokens",
    "entropy": "entropy for surprisal",
    "surprisal": "surprisal for entropy",
}

OPENING = """# Study: where erasing pays

Written by `python -m experiments.study.report` from the cells in reports/study;
[experiments/study](../experiments/study/README.md) says how to rerun it and what the tasks are. A 0.3M-parameter Qwen3,
{seeds} seeds, each with a warm start of its own, 20 steps of 16 prompts x 16 completions, 256 held-out problems x 16
samples. Intervals are 95 %, Student's t over the seeds, paired by seed (and so by warm start) for differences. *Plain*
has erasure off, *erased* on, with the algorithm's own erasure settings. *Equal tokens*: plain held-out accuracy when
both have generated as many tokens, erased ones counted. `e3rl` is the letter of the paper as we reconstruct it;
everything with a suffix is an ablation or ours."""
ABLATED = """## Ablations of the letter

The letter (`e3rl`) minus the ablation at equal steps. The paper says that every one of these gains is positive.
*Reproduced*: above 0. *Not reproduced*: a gain of 0.02 is ruled out. *Underpowered*: neither. Segments of a reasoning
step (6 or 7 tokens) are the letter; all splits have 126 tokens."""


def planned(task: Task) -> list[str]:
    """Every arm that the study plans for a task."""
    reading = "surprisal" if task.name == "selfcheck" else "entropy"
    names = [a for a in ABLATIONS if a not in ("entropy", "surprisal") or a == reading]
    return [*BASELINES, *CONTROLS, "e3rl", *EXTENSIONS, *(f"e3rl_{name}" for name in names)]


def signed(gain: Interval) -> str:
    """An interval of a difference."""
    return f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def accuracy(values: np.ndarray) -> str:
    """An accuracy with its interval over the seeds, within 0 and 1."""
    mean, low, high = seed_interval(values)
    return str(Interval(mean, max(0.0, low), min(1.0, high)))


def answer(gain: Interval) -> str:
    """Whether something pays, by its interval."""
    return "yes" if gain.low > 0 else "no" if gain.high < 0 else "undecided"


def opening(tasks: Sequence[Task]) -> str:
    """What was run, and how to read it."""
    seeds = {len(arm.plain) for task in tasks for arm in task.arms.values()}
    text = [OPENING.format(seeds="/".join(map(str, sorted(seeds))))]
    for task in tasks:
        missing = [name for name in planned(task) if name not in task.arms]
        if missing:
            text.append(f"**Not run on {task.name}:** {', '.join(missing)}.")
        if not task.settings:
            text.append(f"**Not run on {task.name}:** sampling of the untrained policies.")
    return "\n\n".join(text)


def training(task: Task) -> str:
    """The trained arms of one task."""
    grpo, cool = task.arms.get("grpo"), task.arms.get("grpo_cool")
    header = ["algorithm", "M tokens", "Avg@16 plain", "Avg@16 erased", "minus grpo, equal steps"]
    header += ["minus grpo, equal tokens", "minus grpo_cool, equal tokens", "groups without signal", "erasure rate"]
    rows = []
    for name in [name for name in planned(task) if name in task.arms]:
        arm = task.arms[name]
        gains = [
            "" if rival is None or arm is rival else signed(compare(arm, rival))
            for rival, compare in ((grpo, at_equal_steps), (grpo, at_equal_tokens), (cool, at_equal_tokens))
        ]
        spent, rates = f"{arm.tokens.mean() / 1e6:.2f}", (f"{arm.silent:.2f}", f"{arm.erasure_rate:.2f}")
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
        + ", ".join(f"{reading} {value:.3f}" for reading, value in task.auc.items())
        + f".\n\n{markdown_table(header, rows)}\n\nFour erased samples against as many tokens of others: "
        + "; ".join(votes)
        + ". Best-of-n needs to know the right answer."
    )


def ablations(tasks: Sequence[Task]) -> str:
    """The letter minus each ablation, in training and at sampling, with a verdict on the paper's claim of a gain."""
    header = ["ablation", "task", "after training, plain", "verdict", "after training, erased", "verdict"]
    header += ["untrained, erased", "verdict"]
    rows = []
    for suffix, what in ABLATIONS.items():
        for task in tasks:
            full, arm = task.arms.get("e3rl"), task.arms.get(f"e3rl_{suffix}")
            cells = []
            for mode in ("plain", "erased"):
                gain = at_equal_steps(full, arm, mode) if full and arm else None
                cells += [signed(gain), verdict(gain)] if gain else ["not run", ""]
            other = "other_uncertainty" if suffix in ("entropy", "surprisal") else suffix
            setting = f"erased_{other}"
            known = bool(task.settings) and setting in task.settings[0] and f"e3rl_{suffix}" in planned(task)
            if known:
                gain = seed_interval(task.untrained("erased") - task.untrained(setting))
                cells += [signed(gain), verdict(gain)]
            else:
                cells += ["none" if suffix == "uniform" else "not run", ""]
            if f"e3rl_{suffix}" in planned(task) and (arm or known):
                rows.append([what, task.name, *cells])
    return f"{ABLATED}\n\n{markdown_table(header, rows)}" if rows else f"{ABLATED}\n\nNone was run."


def regimes(tasks: Sequence[Task]) -> str:
    """Where erasing pays, task by task."""
    header = ["does it pay", *(task.name for task in tasks)]
    lines: list[list[str]] = []

    def line(what: str, cells: list[str]) -> None:
        lines.append([what, *cells])

    def trained(what: str, name: str, rival: str, tokens: bool) -> None:
        cells = []
        for task in tasks:
            arm, other = task.arms.get(name), task.arms.get(rival)
            if arm is None or other is None:
                cells.append("not run")
                continue
            gain = at_equal_tokens(arm, other) if tokens else at_equal_steps(arm, other)
            cells.append(f"{answer(gain)}: {signed(gain)}")
        line(what, cells)

    def untrained(what: str, rival: str) -> None:
        cells = []
        for task in tasks:
            if not task.settings:
                cells.append("not run")
                continue
            mine, tokens = task.untrained("erased"), task.untrained("erased", "tokens")
            if rival == "temperature":
                theirs = task.untrained(best_temperature(task))
            elif rival == "plain":
                theirs = task.untrained("plain")
            else:
                theirs = of_several(task, "plain", rival, tokens)
            gain = seed_interval(mine - theirs)
            cells.append(f"{answer(gain)}: {signed(gain)}")
        line(what, cells)

    line("untrained, plain", [accuracy(t.untrained("plain")) if t.settings else "not run" for t in tasks])
    for reading in ("surprisal", "entropy"):
        line(f"AUC of U ({reading})", [f"{t.auc[reading]:.3f}" if t.auc else "not run" for t in tasks])
    untrained("sampling: erased against plain", "plain")
    untrained("sampling: erased against the best temperature", "temperature")
    untrained("sampling: erased against best-of-n at equal tokens", "best")
    untrained("sampling: erased against majority at equal tokens", "majority")
    names = [n for n in ("e3rl", *EXTENSIONS) if any(n in task.arms for task in tasks)]
    for name in names:
        for rival in ("grpo", "grpo_cool"):
            trained(f"training: {name} against {rival}, equal steps", name, rival, False)
            trained(f"training: {name} against {rival}, equal tokens", name, rival, True)
    return (
        "## Where it pays\n\nBy the interval of the difference; *plain* accuracy for what is trained.\n\n"
        + markdown_table(header, lines)
    )


def best_extension(tasks: Sequence[Task]) -> tuple[str, dict[str, Interval]] | None:
    """The extension with the highest mean gain over GRPO at equal tokens, of those that ran on every task."""
    found: dict[str, dict[str, Interval]] = {}
    for name in EXTENSIONS:
        if all(name in task.arms and "grpo" in task.arms for task in tasks):
            found[name] = {task.name: at_equal_tokens(task.arms[name], task.arms["grpo"]) for task in tasks}
    if not found:
        return None
    return max(found.items(), key=lambda item: sum(gain.mean for gain in item[1].values()))


def closing(tasks: Sequence[Task]) -> str:
    """The extension that does best."""
    best = best_extension(tasks)
    if best is None:
        return "No extension ran on every task."
    name, gains = best
    text = ", ".join(f"{task} {signed(gain)}" for task, gain in gains.items())
    return f"Of the extensions that ran on every task, `{name}` gains most over GRPO at equal tokens: {text}."


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
