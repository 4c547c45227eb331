"""Erasing on a pretrained model without any training, beside what a sceptic asks for. -> reports/decoding.md and .json

    python -m experiments.decoding.evidence [--smollm2 runs/smollm2] [--problems 40]

Plain sampling, erasing by surprisal and by entropy, and lower temperatures; each as one sample, as a majority vote and
as best-of-n at equal tokens, erased tokens counted. What it should show: whether erasing lies above the curve that
lowering the temperature draws (it does not), and whether U separates right from wrong within a group.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from experiments.decoding.families import FAMILIES, Family
from replication.config import ErasureConfig, RolloutConfig
from replication.errors import Parser, UserError, run_command
from replication.evaluation.diagnostics import group_auc
from replication.evaluation.metrics import majority_at_k, pass_at_k
from replication.evaluation.run import mean_uncertainty, uncertainties
from replication.evaluation.statistics import bootstrap
from replication.loading import load_policy
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.rollout.trace import Rollout
from replication.rollout.uncertainty import segment_uncertainties
from replication.seeds import seed_for

GROUP = 16
BUDGETS = (64, 128, 256)  # tokens a problem
VOTES = ("majority", "best")
PLAIN = ErasureConfig(fraction=0.0)
SETTINGS = {
    "plain": (PLAIN, 1.0),
    "plain, temperature 0.7": (PLAIN, 0.7),
    "plain, temperature 0.5": (PLAIN, 0.5),
    "plain, temperature 0.3": (PLAIN, 0.3),
    "erased by surprisal": (ErasureConfig(uncertainty="surprisal"), 1.0),
    "erased by entropy": (ErasureConfig(uncertainty="entropy"), 1.0),
    "erased by surprisal, temperature 0.7": (ErasureConfig(uncertainty="surprisal"), 0.7),
}


def sample(model: Any, family: Family, erasure: ErasureConfig, temperature: float, rows: int) -> Rollout:
    """GROUP completions of every question, in segments of eight tokens."""
    settings = RolloutConfig(
        group_size=GROUP,
        temperature=temperature,
        segments=family.segments,
        segment_tokens=8,
        max_rows=4 * rows,
        lanes=rows,
    )
    keys = torch.tensor([seed_for(0, "evidence", q.name, i) for q in family.questions for i in range(GROUP)])
    return roll_out(TorchEngine(model), [q.prompt for q in family.questions], keys, settings, erasure, family.ends, 0)


def at_budget(values: np.ndarray, tokens: float, budget: int) -> np.ndarray | None:
    """[P] the value of k samples that take the budget together, between whole k by a straight line; values[k - 1]."""
    k = budget / tokens
    if k < 1 or k > len(values):
        return None
    below = min(int(k), len(values) - 1)
    return values[below - 1] + (k - below) * (values[below] - values[below - 1])


def interval(values: np.ndarray | None) -> list[float] | None:
    """Mean over problems and its 95 % interval."""
    return None if values is None else [round(x, 4) for x in bootstrap(values)]


def defined(value: float) -> float | None:
    """The value to three digits; None for nan."""
    return None if value != value else round(value, 3)


def first_fault_auc(done: Rollout, family: Family, erasure: ErasureConfig) -> list[float | None]:
    """Within groups, for each segment: the chance that U of a first wrong segment lies above U of a right one."""
    n, t = done.erasures.shape[1], done.tokens.shape[1]
    right = torch.full((len(family.questions), t), -1)
    for row, question in enumerate(family.questions):
        ids = torch.tensor(question.right)
        right[row, : len(ids)] = ids
    right = right.repeat_interleave(GROUP, 0)
    differs = (done.tokens != right) & done.mask & (right >= 0)
    segment_of = done.segment_of
    faults = torch.stack([(differs & (segment_of == i)).any(1) for i in range(n)], 1)  # [R, N]
    before = faults.long().cumsum(1) - faults.long()
    present = (torch.arange(n) < done.segments[:, None]) & (before == 0)
    h = done.uncertainty(erasure.uncertainty)
    u = segment_uncertainties(
        h, done.start, done.segments, erasure.window, erasure.w_base, erasure.w_max, erasure.w_rise
    )
    return [defined(group_auc(*(x[:, i].view(-1, GROUP) for x in (u, faults, present)))) for i in range(n)]


def measure(done: Rollout, family: Family, tokenizer: Any, lanes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tokens, distinct answers and busy lanes; and by problem, [P] each, the accuracy, and votes and best-of-n by
    budget, None where it pays for too few or too many."""
    texts = tokenizer.batch_decode(
        [ids[:end] for ids, end in zip(done.tokens.tolist(), done.length.tolist(), strict=True)],
        skip_special_tokens=True,
    )
    answers = [[family.read(text) for text in texts[i : i + GROUP]] for i in range(0, len(texts), GROUP)]
    hits = [[a == q.answer for a in row] for q, row in zip(family.questions, answers, strict=True)]
    correct = torch.tensor(hits)
    tokens = float((done.length + done.erased_tokens).float().mean())
    votes = np.stack([majority_at_k(answers, correct, k).numpy() for k in range(1, GROUP + 1)])  # [G, P]
    best = np.stack([pass_at_k(correct.sum(1), GROUP, k).numpy() for k in range(1, GROUP + 1)])
    by_problem = {
        "correct": correct,
        "accuracy": correct.double().mean(1).numpy(),
        "majority": {b: at_budget(votes, tokens, b) for b in BUDGETS},
        "best": {b: at_budget(best, tokens, b) for b in BUDGETS},
    }
    found = {
        "accuracy": interval(by_problem["accuracy"]),
        "tokens": round(tokens, 2),
        "erased_tokens": round(float(done.erased_tokens.float().mean()), 2),
        "distinct": round(float(np.mean([len(set(row)) for row in answers])), 2),
        **{kind: {str(b): interval(by_problem[kind][b]) for b in BUDGETS} for kind in VOTES},
        "busy": round(done.row_steps / (done.steps * min(lanes, len(done.length))), 3),
    }
    return found, by_problem


def against_temperatures(settings: dict[str, dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    """Paired differences of an erasing setting, at equal tokens, to the plain temperature that is best there.

    Which that is is picked on the same problems, in its favour.
    """
    found: dict[str, dict[str, Any]] = {kind: {} for kind in VOTES}
    for kind in VOTES:
        for budget in BUDGETS:
            mine = settings[name][kind][budget]
            rivals = {other: row[kind][budget] for other, row in settings.items() if other.startswith("plain")}
            rivals = {other: values for other, values in rivals.items() if values is not None}
            if mine is not None and rivals:
                best = max(rivals, key=lambda other: float(rivals[other].mean()))
                found[kind][str(budget)] = {"against": best, "gain": interval(mine - rivals[best])}
    return found


def examine(name: str, model: Any, tokenizer: Any, problems: int, rows: int) -> dict[str, Any]:
    """All settings on one family, each also as a paired difference to plain sampling."""
    family = FAMILIES[name](tokenizer, problems)
    out: dict[str, Any] = {"problems": len(family.questions), "settings": {}}
    by_problem: dict[str, dict[str, Any]] = {}
    for setting, (erasure, temperature) in (bar := tqdm(SETTINGS.items(), desc=name)):
        bar.set_postfix_str(setting)
        done = sample(model, family, erasure, temperature, rows)
        found, by_problem[setting] = measure(done, family, tokenizer, rows)
        if setting == "plain":
            correct = by_problem[setting]["correct"]
            readings = {r: replace(PLAIN, uncertainty=r) for r in ("surprisal", "entropy")}
            out["auc_completion"] = {
                r: defined(group_auc(torch.tensor(mean_uncertainty(uncertainties(done, e))).view(-1, GROUP), ~correct))
                for r, e in readings.items()
            }
            if family.questions[0].right:
                out["auc_first_fault"] = {r: first_fault_auc(done, family, e) for r, e in readings.items()}
        else:
            found["gain"] = interval(by_problem[setting]["accuracy"] - by_problem["plain"]["accuracy"])
        out["settings"][setting] = found
    erasing = [setting for setting in SETTINGS if setting.startswith("erased")]
    out["equal_tokens"] = {setting: against_temperatures(by_problem, setting) for setting in erasing}
    return out


def page(found: dict[str, Any], model: str) -> str:
    """The report in Markdown."""

    def spelled(values: list[float] | None) -> str:
        return f"{values[0]:.3f} [{values[1]:.3f}, {values[2]:.3f}]" if values else "-"

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    lines = [
        f"# Erasing on a pretrained model: {model}",
        "",
        f"No training and no verifier. {GROUP} completions a problem, one seed, segments of eight tokens, kappa 0,",
        "lambda 0.3, cap 5. Intervals are 95 % by bootstrap over problems; gains are paired. Tokens count the erased",
        "ones. Maj and best are a majority vote and best-of-n (a perfect verifier's) of as many samples as the budget",
        f"pays for; a dash where it pays for less than one or more than {GROUP}. They favour erasing: its thresholds",
        f"come from all {GROUP} members of a group, of which fewer are charged for, and which are not independent.",
        "Written by `python -m experiments.decoding.evidence`.",
    ]
    for name, family in found.items():
        lines += ["", f"## {name}, {family['problems']} problems", ""]
        lines += ["| | accuracy | gain over plain | tokens | distinct | busy lanes |", "|" + "---|" * 6]
        for setting, row in family["settings"].items():
            numbers = f"{row['tokens']:.1f} | {row['distinct']:.1f} | {row['busy']:.2f}"
            lines.append(f"| {setting} | {spelled(row['accuracy'])} | {spelled(row.get('gain'))} | {numbers} |")
        heads = [f"Maj, {b} tokens" for b in BUDGETS] + [f"best, {b}" for b in BUDGETS]
        lines += ["", "| | " + " | ".join(heads) + " |", "|" + "---|" * (1 + len(heads))]
        for setting, row in family["settings"].items():
            cells = [spelled(row[kind][str(b)]) for kind in VOTES for b in BUDGETS]
            lines.append(f"| {setting} | " + " | ".join(cells) + " |")
        lines += [
            "",
            "Paired differences at equal tokens to the plain temperature that is best there, picked on the same",
        ]
        lines += ["problems:", "", "| | " + " | ".join(heads) + " |", "|" + "---|" * (1 + len(heads))]
        for setting, row in family["equal_tokens"].items():
            differences = [row[kind].get(str(b), {}) for kind in VOTES for b in BUDGETS]
            cells = [spelled(d["gain"]) + f" ({d['against']})" if d else "-" for d in differences]
            lines.append(f"| {setting} | " + " | ".join(cells) + " |")
        lines += [
            "",
            "AUC of a plain completion's mean U for a wrong answer, within its group: "
            + ", ".join(f"{r} {cell(v)}" for r, v in family["auc_completion"].items())
            + ".",
        ]
        if "auc_first_fault" in family:
            for r, values in family["auc_first_fault"].items():
                lines.append(
                    f"AUC of U for the first wrong segment, by segment, {r}: " + ", ".join(map(cell, values)) + "."
                )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = Parser(prog="python -m experiments.decoding.evidence", description=__doc__)
    parser.add_argument("--smollm2", default="runs/smollm2", help="SmolLM2-135M as experiments/smollm2.py unpacks it")
    parser.add_argument("--problems", type=int, default=40, help="problems a family, at most 48")
    parser.add_argument("--rows", type=int, default=32, help="completions decoded in one pass; 3 x as many wait")
    parser.add_argument("--out", default="reports", help="folder to write to")
    options = parser.parse_args()
    if not 2 <= options.problems <= 48:
        raise UserError(f"--problems {options.problems}: give 2 to 48")
    if not Path(options.out).is_dir():
        raise UserError(f"--out {options.out}: name a folder that exists")
    model, tokenizer = load_policy(options.smollm2)
    torch.set_num_threads(2)
    found = {name: examine(name, model.eval(), tokenizer, options.problems, options.rows) for name in FAMILIES}
    for file, text in (("json", json.dumps(found, indent=1) + "\n"), ("md", page(found, "SmolLM2-135M-Instruct"))):
        (Path(options.out) / f"decoding.{file}").write_text(text)
        print(f"-> {options.out}/decoding.{file}")


if __name__ == "__main__":
    run_command(main)
