"""What the study runs: algorithms, controls, extensions and ablations, by their names in params.yaml."""

from __future__ import annotations

BASELINES = ["grpo", "dr_grpo", "dapo", "gspo", "sapo"]
CONTROLS = ["grpo_cool"]
CHOSEN = ["grpo_kl", "grpo_token_mean"]  # what docs/ledger.md leaves off, on: stage train_choices
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
CHOICES = {  # other values of what the paper leaves open; the sampling setting has the same suffix
    "kappa_1": "kappa 1 for 0",
    "growth_0": "lambda 0 for 0.3",
    "growth_0.6": "lambda 0.6 for 0.3",
    "history_0": "eta 0 for 0.1",
    "history_0.3": "eta 0.3 for 0.1",
    "window_1": "window of 1 token for 4",
    "window_8": "window of 8 tokens for 4",
    "weights_1": "all three weights of U equal, for 1, 0.5, 0.5",
}


def planned(task: str) -> list[str]:
    """Every arm that the study plans for a task."""
    if task.endswith("_long"):
        return LONG
    reading = "surprisal" if task == "selfcheck" else "entropy"
    names = [a for a in ABLATIONS if a not in READINGS or a == reading]
    chosen = CHOSEN if task in ("recurrence", "selfcheck") else []
    return [*BASELINES, *CONTROLS, *chosen, "e3rl", *EXTENSIONS, *(f"e3rl_{name}" for name in names)]
