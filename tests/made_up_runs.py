"""Finished runs, made up, whose numbers are known."""

import json


def write_evaluation(folder, cells, how):
    """Cells are benchmark -> mode -> [problems][samples], `how` is benchmark -> what its metrics say beside."""
    folder.mkdir(parents=True)
    rows = [
        {
            "benchmark": name,
            "mode": mode,
            "problem": f"p{i}",
            "correct": sum(hits),
            "samples": len(hits),
            "maj": 0.5,
            "tokens": 10.0,
        }
        for name, modes in cells.items()
        for mode, correct in modes.items()
        for i, hits in enumerate(correct)
    ]
    (folder / "problems.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    metrics = {
        name: {m: {"samples": float(len(c[0])), "problems": len(c), **how[name]} for m, c in modes.items()}
        for name, modes in cells.items()
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))


def write_run(runs, algorithm, seed, correct, steps=2):
    """`correct` is [problems][samples]; erased mode gets every sample right."""
    folder = runs / "evaluate/toy" / algorithm / str(seed)
    folder.mkdir(parents=True)
    rows = [
        {
            "benchmark": "held",
            "mode": mode,
            "problem": f"p{i}",
            "correct": len(hits) if mode == "erased" else sum(hits),
            "samples": len(hits),
            "maj": 0.5,
            "tokens": 15.0 if mode == "erased" else 10.0,
        }
        for mode in ("plain", "erased")
        for i, hits in enumerate(correct)
    ]
    (folder / "problems.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "metrics.json").write_text(json.dumps({"held": {"plain": {"samples": 2.0, "problems": len(correct)}}}))
    if algorithm == "untrained":
        return
    trained = runs / "train/toy" / algorithm / str(seed)
    trained.mkdir(parents=True)
    row = {
        "generated_tokens": 75.0,
        "reward": 0.5,
        "reward_plain": 0.5,
        "erasure_rate": 0.25,
        "groups_without_signal": 0.5,
    }
    record = {"base": "runs/warmstart/toy", "revision": None, "settings": {"train": {"lr": 0.1}}}
    (trained / "run.json").write_text(json.dumps(record))
    (trained / "history.jsonl").write_text("".join(json.dumps({**row, "step": s + 1.0}) + "\n" for s in range(steps)))
