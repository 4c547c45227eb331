"""The ablations of the letter: tables and verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.study.arms import ABLATIONS, CHOICES, READINGS, planned
from experiments.study.compare import Task, at_equal_steps, at_equal_tokens
from experiments.study.words import in_direction, signed
from replication.evaluation.statistics import Interval, seed_interval
from replication.reporting.page import markdown_table

ABLATED = """## Ablations of the letter

The letter (`e3rl`) minus the ablation. The paper says that its gains are positive. *Reproduced in direction*: the
interval is above 0. *Not reproduced*: a gain of 0.02 is ruled out. *Underpowered*: neither. With this many intervals
of 95 %, two or three in a hundred are above 0 by chance: read a verdict with its neighbours. Segments of one reasoning
step (6 or 7 tokens) are the letter here; the paper's best split is 16 x 512 tokens, of which nothing says that it is a
step; all splits have 126 tokens. The paper does not say whether it evaluates with erasure, so both are judged, and they
often disagree: trained arms sampled plainly at equal tokens, and sampled with erasure at equal steps, each by its own
rule. Untrained policies spend more or fewer tokens on an erased sample than by the letter: the change stands beside.
Which reading of the uncertainty a task takes is ours, chosen by what works there: no verdict."""

CHOSEN = """## Choices that the paper leaves open

Untrained policies sampled with erasure by the letter, one setting changed: accuracy minus that of our value, and the
change of tokens a sample. [The ledger](../docs/ledger.md) has every such choice."""


def ablations(tasks: Sequence[Task]) -> str:
    """The letter minus each ablation, trained and at sampling, with verdicts on the paper's claims of gains."""
    header = ["ablation", "task", "trained: plain, equal steps", "plain, equal tokens", "erased, equal steps"]
    header += ["untrained: erased", "tokens a sample, letter and ablation"]
    rows, lines = [], []
    for suffix, what in ABLATIONS.items():
        trained: dict[str, list[str]] = {}
        erased: dict[str, list[str]] = {}
        sampled: dict[str, list[str]] = {}
        for task in [task for task in tasks if f"e3rl_{suffix}" in planned(task.name)]:
            gains = _trained_gains(task, suffix)
            gain, tokens, change = _sampled_gain(task, suffix)
            trained.setdefault(in_direction(gains[1]) if gains else "not run", []).append(task.name)
            erased.setdefault(in_direction(gains[2]) if gains else "not run", []).append(task.name)
            if suffix != "uniform":  # the allocation does nothing at sampling
                sampled.setdefault(in_direction(gain) if gain else "not run", []).append(f"{task.name}{change}")
            if gains or gain:
                shown = [signed(g) for g in gains] if gains else ["not run"] * 3
                rows.append([what, task.name, *shown, signed(gain) if gain else "none", tokens])
        if suffix not in READINGS:
            said = [f"Trained, sampled plainly: {_spoken(trained)}", f"Trained, erased: {_spoken(erased)}"]
            lines.append(f"- **{what}**: {'. '.join([*said, f'Untrained, erased: {_spoken(sampled)}'])}")
    lines = ["Verdicts on the claim that the letter gains over each:\n", *lines]
    return "\n\n".join([ABLATED, "\n".join(lines), markdown_table(header, rows) if rows else "None was run."])


def _trained_gains(task: Task, suffix: str) -> list[Interval] | None:
    full, arm = task.arms.get("e3rl"), task.arms.get(f"e3rl_{suffix}")
    if full is None or arm is None:
        return None
    return [at_equal_steps(full, arm), at_equal_tokens(full, arm), at_equal_steps(full, arm, "erased")]


def _sampled_gain(task: Task, suffix: str) -> tuple[Interval | None, str, str]:
    setting = "erased_" + ("other_uncertainty" if suffix in READINGS else suffix)
    if not task.settings or setting not in task.settings[0]:
        return None, "", ""
    letter, other = (task.untrained(name, "tokens").mean() for name in ("erased", setting))
    gain = seed_interval(task.untrained("erased") - task.untrained(setting))
    return gain, f"{letter:.1f}, {other:.1f}", f" (the letter at {round(100 * letter / other - 100):+d} % tokens)"


def _spoken(verdicts: dict[str, list[str]]) -> str:
    said = [f"{word} on {', '.join(names)}" for word, names in verdicts.items() if word != "not run"]
    missing = [f"not run on {', '.join(names)}" for word, names in verdicts.items() if word == "not run"]
    return "; ".join(said + missing) or "does not apply"


def choices(tasks: Sequence[Task]) -> str:
    """Erased accuracy of the untrained policies under other values of what the paper leaves open, minus ours."""
    rows = []
    for suffix, what in CHOICES.items():
        row = [what]
        for task in tasks:
            name = f"erased_{suffix}"
            if not task.settings or name not in task.settings[0]:
                row.append("not run")
                continue
            ratio = task.untrained(name, "tokens").mean() / task.untrained("erased", "tokens").mean()
            gain = seed_interval(task.untrained(name) - task.untrained("erased"))
            row.append(f"{signed(gain)}, {round(100 * ratio - 100):+d} % tokens")
        rows.append(row)
    header = ["another value", *(task.name for task in tasks)]
    return f"{CHOSEN}\n\n{markdown_table(header, rows)}"
