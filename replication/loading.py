"""A causal LM and its tokenizer from a folder or the hub: whole and as they were saved, or refused in one line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from replication.errors import EXTRAS, UserError, is_out_of_memory
from replication.rollout.masks import embedded

FLOATING = {"F64", "F32", "F16", "BF16"}
POINTER = b"version https://git-lfs"  # how the file begins that Git leaves in place of a large one


def load_policy(
    path: str, revision: str | None = None, dtype: str = "float32", weights: bool = True
) -> tuple[Any, Any]:
    """A causal LM, in eval mode and without dropout, and its tokenizer, whose padding token the model can read.

    Args:
        path: folder of a checkpoint, or hub id (owner/name).
        revision: commit of the hub model.
        dtype: type of the weights.
        weights: whether they are read; without, the model is a description of one that a server holds.

    Raises:
        UserError: there is no such model, it cannot be had from here, its files are damaged, its weights are not those
            of its architecture or are quantised, or it has no end-of-text token.
    """
    if Path(path).is_dir():
        check_files(Path(path))
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
        if weights:
            model, report = AutoModelForCausalLM.from_pretrained(
                path, revision=revision, dtype=getattr(torch, dtype), output_loading_info=True
            )
        else:
            model, report = described(path, revision), {}
        found = eos_ids(model, tokenizer)
    except Exception as error:  # transformers raises whatever a damaged or unknown file leads to
        if is_out_of_memory(error) or (isinstance(error, ModuleNotFoundError) and error.name in EXTRAS):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if isinstance(error, ImportError):
            raise UserError(f"the model {path} needs a package that is missing: {' '.join(lines[0].split())}") from None
        raise UserError(
            f"the model {path} could not be loaded ({' '.join(lines[0].split())}): name a folder of a causal LM whose "
            "files are whole, or a hub id where the hub can be reached"
        ) from None
    if weights and getattr(model.config, "quantization_config", None) is not None:
        raise UserError(
            f"the model {path} has quantised weights, of which no gradient and no exact log-probability is known here: "
            "take the version that is not quantised, or save it dequantised"
        )
    check_weights_are_the_files(path, report)
    if weights:
        check_numbers(Path(path), model)
    if not found:
        raise UserError(
            f"the model {path} has no end-of-text token, so that no completion would end: give its tokenizer an "
            "eos_token, or its generation_config.json an eos_token_id"
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= embedded(model):
        tokenizer.pad_token_id = found[0]
        if tokenizer.pad_token_id is None:
            raise UserError(
                f"the tokenizer of {path} has no token for the end of text, id {found[0]}: restore its files"
            )
    disable_dropout(model)
    return model.eval(), tokenizer


def described(path: str, revision: str | None) -> Any:
    """A model of that configuration without weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path, revision=revision))
    with contextlib.suppress(OSError):  # not every model has these settings
        model.generation_config = GenerationConfig.from_pretrained(path, revision=revision)
    return model


def check_files(folder: Path) -> None:
    """Raise a `UserError` for a folder that is no checkpoint, or that holds files without their contents."""
    if not (folder / "config.json").exists():
        raise UserError(
            f"{folder} holds no config.json, so it is no checkpoint: name the folder that `save_pretrained` wrote"
        )
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        if not os.access(file, os.R_OK):
            raise UserError(f"{file} may not be read: give yourself the right to, by chmod u+r")
        with file.open("rb") as opened:
            if opened.read(len(POINTER)) == POINTER:
                raise UserError(f"{file} is Git's pointer to a file, not the file: run `git lfs pull` in {folder}")


def check_weights_are_the_files(path: str, report: dict[str, Any]) -> None:
    """Raise a `UserError` where weights were drawn anew or left in the file: the model would be another one.

    Args:
        path: the model's folder or hub id.
        report: transformers' account of the loading, without what it knows to be no fault, such as tied weights.
    """
    faults = {
        "missing_keys": "lacks the weights {}: restore them, they would be drawn anew",
        "mismatched_keys": "has weights of another shape than its config.json says, such as {}: restore one of the two",
        "unexpected_keys": "has weights that its architecture does not use, such as {}: correct config.json",
        "error_msgs": "was not read whole ({}): restore its files",
    }
    for kind, fault in faults.items():
        if names := names_of(report.get(kind) or ()):
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(f"the model {path} {fault.format(', '.join(names[:3]) + more)}")


def check_numbers(folder: Path, model: Any) -> None:
    """Raise a `UserError` where the file of a floating-point weight holds whole numbers: they would be cast."""
    weights = {name for name, weight in model.named_parameters() if weight.is_floating_point()}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in weights & set(file.keys()):
                if (kind := file.get_slice(name).get_dtype()) not in FLOATING:
                    raise UserError(f"{path}: {name} holds {kind}, not floating-point numbers: restore the file")


def names_of(keys: Iterable[Any]) -> list[str]:
    """Names of weights, which stand alone or before their two shapes."""
    return sorted(key if isinstance(key, str) else str(key[0]) for key in keys)


def disable_dropout(model: Any) -> None:
    """Set every dropout of the model to 0: it would make the trainer disagree with the sampler.

    Modules keep theirs as a layer, or as a number that they read in training mode.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if ("drop" in name or "jitter" in name) and isinstance(value, float):
                setattr(module, name, 0.0)


def eos_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every id that ends a completion: the tokenizer's, and those of the model's generation settings."""
    declared = getattr(model.generation_config, "eos_token_id", None)
    ids = set(declared if isinstance(declared, list) else [declared]) | {tokenizer.eos_token_id}
    return sorted(int(i) for i in ids if i is not None and 0 <= int(i) < embedded(model))
