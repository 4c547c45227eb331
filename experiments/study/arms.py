"""What the study runs: algorithms, controls, extensions and ablations, by their names in params.yaml."""

from __future__ import annotations

BASELINES = ["grpo", "dr_grpo", "dapo", "gspo", "sapo"]
CONTROLS = ["grpo_cool"]
EXTENSIONS = ["e3rl_mixed", "e3rl_contrastive", "e3rl_absolute", "e3rl_mixed_absolute", "e3rl_contrastive_absolute"]
EXTENSIONS += ["e3rl_floor", "e3rl_batch_baseline", "e3rl_running_baseline", "e3rl_acceptance"]
LONG = ["grpo", *CONTROLS, "e3rl", "e3rl_mixed", "e3rl_contrastive", "e3rl_contrastive_absolute"]
READINGS = ("entropy", "surprisal")  # of the uncertainty: ours [O], no claim of the paper
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


def planned(task: str) -> list[str]:
    """Every arm that the study plans for a task."""
    if task.endswith("_long"):
        return LONG
    reading = "surprisal" if task == "selfcheck" else "entropy"
    names = [a for a in ABLATIONS if a not in READINGS or a == reading]
    return [*BASELINES, *CONTROLS, "e3rl", *EXTENSIONS, *(f"e3rl_{name}" for name in names)]
