"""The model card of an export: what it is and how it was made, as a function of the run and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LAST = 5  # steps that the last reward is the mean of
TITLE = (
    "Shattering the Autoregressive Curse: Dynamic Epistemic Entropy Orchestrated Erasable Reinforcement Learning "
    "for LLMs"
)
SHOWN = {  # the settings that the card's table shows, by section; run.json has all of them
    "train": ["steps", "prompts", "minibatches", "epochs", "lr", "warmup", "weight_decay", "grad_clip"],
    "rollout": ["group_size", "segments", "segment_tokens", "temperature"],
    "erasure": ["fraction", "uncertainty", "baseline", "kappa", "growth", "history", "cap"],
    "credit": ["advantage", "allocation", "negatives"],
    "objective": ["surrogate", "level", "clip_low", "clip_high", "aggregate", "kl", "correction"],
    "policy": ["lora_rank", "lora_alpha", "thinking"],
    "trainer": ["strategy", "devices", "nodes", "precision"],
}


def last_reward(history: Sequence[Mapping[str, float]]) -> tuple[float, int]:
    """Mean reward of the last steps, and how many they are."""
    rows = history[-LAST:]
    return sum(row["reward"] for row in rows) / len(rows), len(rows)


def model_card(record: Mapping[str, Any], history: Sequence[Mapping[str, float]], source: Mapping[str, Any]) -> str:
    """The card in Markdown, with the front matter that the hub reads.

    Args:
        record: what run.json holds.
        history: a row a step.
        source: the manifest of the prepared problems, empty where there is none.
    """
    algorithm, base, settings = record["algorithm"], record["base"], record["settings"]
    data = (source.get("sources") or {}).get("train") or {}
    on_hub = not Path(base).is_dir()
    front = {
        **({"base_model": base} if on_hub else {}),  # the hub refuses the path of a folder
        **({"datasets": [data["path"]]} if data.get("revision") else {}),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": sorted({"reinforcement-learning", "e3rl", algorithm}),
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in front.items()]  # JSON is YAML
    reward, last = last_reward(history)
    rows = [
        f"| {section}.{key} | {settings[section][key]} |"
        for section, keys in SHOWN.items()
        for key in keys
        if section != "policy" or key == "thinking" or settings["policy"]["lora_rank"]
    ]
    weights = "all weights"
    if rank := settings["policy"]["lora_rank"]:
        weights = f"LoRA adapters of rank {rank} on the linear layers of the blocks, merged into these weights"
    where = f"`{base}`" + (f" at revision `{record['revision']}`" if record["revision"] else "")
    problems = f"`{data['path']}`" if data.get("path") else f"the task {source.get('task', 'of unknown name')}"
    problems += f" at revision `{data['revision']}`" if data.get("revision") else ""
    drawn = (source.get("counts") or {}).get("drawn")
    checked = next((row for row in reversed(history) if "heldout" in row), None)
    heldout = ""
    if checked:
        heldout = f" Plain accuracy on held-out problems after step {checked['step']:.0f}: {checked['heldout']:.3f}."
    return f"""---
{chr(10).join(lines)}
---
# {algorithm} on {record["model"]}, seed {record["seed"]}

A policy trained by reinforcement learning with verifiable rewards, by a replication of E3RL (erasable reinforcement
learning, [arXiv 2606.17735](https://arxiv.org/abs/2606.17735)), not by the paper's authors.

- Algorithm: `{algorithm}`
- Problems: {problems}{f", {drawn} to train on" if drawn else ""}
- Started from: {where}
- Trained: {weights}
- Seed: {record["seed"]}

## How it was trained

| setting | value |
| --- | --- |
{chr(10).join(rows)}

`run.json` has every setting, `history.jsonl` a row of metrics for each of the {len(history)} steps.

## Rewards

Mean over the last {last} of {len(history)} steps: **{reward:.3f}**; in the first step: {history[0]["reward"]:.3f}.
The reward is 1 where the boxed answer of a completion of a training problem is right. Completions are sampled as in the
training, with erasure where the algorithm erases.{heldout}

## How to load it

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("<this folder>")
tokenizer = AutoTokenizer.from_pretrained("<this folder>")
```

## What was not done

- Beyond the figures above it was not evaluated: on no benchmark, not for safety, not for any other use.
- The authors published no code: where the paper is silent, the replication chose.

## Citation

```bibtex
@misc{{e3rl2026,
  title = {{{TITLE}}},
  author = {{Wang and An and Qian and Cai and Ouyang and Wang and Ren and Wu}},
  year = {{2026}},
  eprint = {{2606.17735}},
  archivePrefix = {{arXiv}}
}}
```
"""
