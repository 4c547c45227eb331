"""The page in five lines: what was run, what was found, what was not run. Every number comes from the runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from replication.evaluation.statistics import Interval
from replication.gate.judge import study_word
from replication.reporting import study
from replication.reporting.default import interval
from replication.reporting.paper import interval_of
from replication.reporting.results import UNTRAINED, Arm

PAPERS = {"q4b": "Qwen3-4B", "q8b": "Qwen3-8B"}
LIFTS = {"yes": "lifts", "no": "lowers", "undecided": "is not shown to change"}
WORDS = {"yes": "ahead", "no": "behind", "undecided": "undecided"}


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def in_short(
    models: Mapping[str, Sequence[Arm]], metrics: Mapping[str, Any], reported: Sequence[Any], found: study.Study
) -> list[tuple[str, str]]:
    """Lines of the page's opening: their first words, and what follows them."""
    lines = [("What was run", what_was_run(models, found))]
    lines += [("Found, without training", text) for text in [sampling(metrics)] if text]
    lines += [("Found, trained", text) for text in [trained(metrics)] if text]
    lines += [("Found, in the study", text) for text in [studied(found)] if text]
    return [*lines, ("What was not run", not_run(models, metrics, reported))]


def what_was_run(models: Mapping[str, Sequence[Arm]], found: study.Study) -> str:
    """Models, algorithms, seeds, problems; and the study."""
    said = []
    for model, arms in models.items():
        first = next(iter(arms[0].metrics[0].values()))
        size = next(iter(first.values()))
        names = [arm.algorithm for arm in arms if arm.history]
        seeds = max((len(arm.seeds) for arm in arms if arm.history), default=0)
        how = f"{listed(names)} trained with {seeds} seeds each" if names else "the untrained policy alone"
        said.append(f"On {model}: {how}; {size['problems']:.0f} problems x {size['samples']:.0f} samples.")
    if found:
        said.append(f"The study: {sum(1 for _ in study.arms(found))} trained arms on {len(found)} tasks.")
    return " ".join(said)


def sampling(metrics: Mapping[str, Any]) -> str:
    """What erasing does for the untrained policies, beside a lower temperature."""
    said = []
    for model, algorithms in metrics.items():
        for benchmark, modes in algorithms.get(UNTRAINED, {}).items():
            if not {"plain", "erased"} <= modes.keys():
                continue
            plain, erased = modes["plain"], modes["erased"]
            ratio = erased["tokens"]["mean"] / plain["tokens"]["mean"]
            word = LIFTS[study_word(Interval(**erased["lift"]))]
            text = f"on {model} ({benchmark}) erasing {word} accuracy, {plain['avg']['mean']:.3f} to "
            text += f"{erased['avg']['mean']:.3f}, at {ratio:.2f} times the tokens"
            cool = [(mode, entry["avg"]["mean"]) for mode, entry in modes.items() if mode.startswith("plain@")]
            for mode, level in sorted(cool, key=lambda pair: -pair[1])[:1]:
                text += f"; temperature {mode.removeprefix('plain@')} without erasing has {level:.3f}"
            said.append(text)
    return ". ".join(text[0].upper() + text[1:] for text in said) + "." if said else ""


def trained(metrics: Mapping[str, Any]) -> str:
    """Each algorithm of ours against the best baseline, sampled plainly."""
    said = [
        f"{algorithm} minus the best baseline on {model}, sampled plainly: {interval(over)}; a gain is {over['gain']}."
        for model, algorithms in metrics.items()
        for algorithm, benchmarks in algorithms.items()
        for over in [benchmarks.get("average", {}).get("plain", {}).get("over_baseline")]
        if over
    ]
    return " ".join(said)


def studied(found: study.Study) -> str:
    """The letter and the extension that the study recommends against GRPO, by the number of tasks."""
    said = []
    for name in (study.LETTER, "e3rl_contrastive_absolute"):
        key = "minus_grpo_equal_tokens"
        gains = [Interval(**task[name][key]) for task in found.values() if key in task.get(name, {})]
        words = Counter(WORDS[study_word(gain)] for gain in gains)
        told = listed([f"{word} on {count}" for word, count in words.items()])
        said += [f"{name} is {told} of {len(gains)} tasks"] if gains else []
    return f"Against GRPO at equal tokens, {'; '.join(said)}." if said else ""


def not_run(models: Mapping[str, Any], metrics: Mapping[str, Any], reported: Sequence[Any]) -> str:
    """The paper's models, and how many of its values that leaves without a counterpart."""
    missing = [name for key, name in PAPERS.items() if key not in models]
    claims = dict.fromkeys(row["claim"] for row in reported)
    open_claims = claims.keys() - {row["claim"] for row in reported if interval_of(metrics, row)}
    what = f"The paper's {listed(missing)}, which need eight 80 GiB GPUs" if missing else "None of the paper's models"
    left = len(claims) - len(open_claims) or "none"
    return f"{what}. Of the {len(claims)} values that the paper reports, {left} could be held against ours."
