"""The command line over params.yaml: the only reader of that file.

A run's settings are, from weakest to strongest: the defaults of config.py, `models.<model>` of params.yaml,
`algorithms.<algorithm>` of params.yaml, the profile of an evaluation, and `--section.key value` on the command line.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from replication.config import ALGORITHM_ONLY, SECTIONS, Config, DataConfig
from replication.config.profiles import profile_settings
from replication.config.yaml_file import read_yaml
from replication.errors import UserError, installing

set_parsing_settings(docstring_parse_attribute_docstrings=True)  # field docstrings become --help


def read_params(path: Path) -> dict[str, Any]:
    """params.yaml as a mapping with `models` and `algorithms`: name -> section -> settings."""
    params = read_yaml(path)
    if not isinstance(params, dict) or not all(isinstance(params.get(key), dict) for key in ("models", "algorithms")):
        raise UserError(
            f"{path} must hold the keys `models` and `algorithms`, each a mapping: see the repository's params.yaml"
        )
    for group in ("models", "algorithms"):
        for name, sections in params[group].items():
            sections = {} if sections is None else sections
            rows = sections.values() if isinstance(sections, dict) else [sections]
            if not all(row is None or isinstance(row, dict) for row in rows):
                raise UserError(
                    f"{path}, {group}.{name}: must map sections to settings, as `train: {{lr: 1.0e-6}}` does"
                )
            params[group][name] = {section: _words(section, row or {}) for section, row in sections.items()}
    return params


def _words(section: str, row: dict[str, Any]) -> dict[str, Any]:
    """A section's settings, with words as words: YAML reads `precision: 32` as a number."""
    hints = get_type_hints(SECTIONS[section]) if section in SECTIONS else {}
    words = {key for key, hint in hints.items() if get_origin(hint) is Literal}
    return {key: str(value) if key in words and type(value) in (int, float) else value for key, value in row.items()}


@dataclass(frozen=True)
class Matrix:
    """What the pipeline runs, of params.yaml: the report is of this and of nothing else."""

    bases: list[str]  # models that are prepared, warm-started, and evaluated untrained
    models: list[str]  # models that are trained
    algorithms: list[str]
    seeds: list[int]

    def arms(self) -> dict[str, dict[str, list[str]]]:
        """Model -> algorithm -> seeds, as their runs' folders are named."""
        seeds = [str(seed) for seed in sorted(self.seeds)]
        trained = dict.fromkeys(self.algorithms, seeds)
        return {base: {"untrained": ["0"], **(trained if base in self.models else {})} for base in self.bases}


def read_matrix(path: Path) -> Matrix:
    """The matrix of params.yaml.

    Raises:
        UserError: a key is missing or unknown, is no list, or names a section that is not there.
    """
    params = read_params(path)
    matrix, keys = params.get("matrix"), [field.name for field in fields(Matrix)]
    if not isinstance(matrix, dict) or {*matrix} != {*keys} or not all(isinstance(matrix[key], list) for key in keys):
        raise UserError(f"{path}, matrix: must map {', '.join(keys)} to a list each")
    found = Matrix(**matrix)
    rows = (("bases", params["models"], "models"), ("models", found.bases, "matrix.bases"))
    for key, known, where in (*rows, ("algorithms", params["algorithms"], "algorithms")):
        for name in matrix[key]:
            if not isinstance(name, str) or name not in known:
                raise UserError(
                    f"{path}, matrix.{key}: {name!r} is not in {where}, which has {', '.join(map(str, known))}"
                )
    for seed in found.seeds:
        if type(seed) is not int:
            raise UserError(f"{path}, matrix.seeds: {seed!r} is not a whole number")
    return found


def model_section(params: dict[str, Any], model: str, path: Path) -> tuple[str, dict[str, Any]]:
    """The name and settings of a model: a section of params.yaml (`4b` is `q4b`: Hydra's keys begin with a letter),
    or `custom` for the folder or hub id of any other causal LM."""
    for name in (model, f"q{model}"):
        if name in params["models"]:
            return name, params["models"][name]
    if (model and Path(model).is_dir()) or re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model):
        section = dict(params["models"].get("custom", {}))
        section["policy"] = {**section.get("policy", {}), "pretrained": model}
        return _name_of(model), section
    if "/" in model:
        raise UserError(f"--model {model}: there is no such folder, and a hub id is owner/name")
    known = ", ".join(name.removeprefix("q") if name in ("q4b", "q8b") else name for name in params["models"])
    raise UserError(
        f"--model {model} is not known: use one of {known}, the folder of a model, or a hub id (owner/name)"
    )


def _name_of(model: str) -> str:
    """What the outputs of a model that is no section go by: its last name, and a hash of the whole one, so that no two
    models share them, however a folder is spelt."""
    whole = os.path.realpath(model) if Path(model).is_dir() else model.lower()
    return f"{Path(whole).name.lower()[:40]}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:8]}"


def _parser(sections: Sequence[str]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    for name in sections:
        parser.add_argument(f"--{name}", type=SECTIONS[name], default=SECTIONS[name](), help=SECTIONS[name].__doc__)
    return parser


def _parse(parser: ArgumentParser, what: str, values: dict[str, Any] | None, flags: Sequence[str] | None) -> Any:
    """jsonargparse, with its errors turned into one line that names where the value stood."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            found = parser.parse_object(values) if values is not None else parser.parse_args(list(flags or ()))
    except (ArgumentError, ValueError, TypeError) as error:
        text = " ".join(str(error).replace("Parser key", "key").split())
        raise UserError(f"{what}: {text}") from None
    for section in (name for name in SECTIONS if isinstance(found.get(name), Namespace)):
        for key, hint in get_type_hints(SECTIONS[section]).items():
            if found[f"{section}.{key}"] is None and NoneType not in get_args(hint):  # which jsonargparse lets through
                raise UserError(f"{what}: {section}.{key} has no value: give it one, or take it out")
    return found


def _merge(weak: dict[str, Any], strong: dict[str, Any]) -> dict[str, Any]:
    merged = dict(weak)
    for key, value in strong.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _settle(parser: ArgumentParser, sections: Sequence[str], filed: dict[str, Any], flags: Sequence[str]) -> Any:
    """The flags over what is filed; the profile that an evaluation names comes in between, but for a training's."""
    unset = {f"{name}.{key}": value for name in sections for key, value in vars(SECTIONS[name]()).items()}
    plain = unset | {f"{name}.{key}": value for name, keys in filed.items() for key, value in keys.items()}
    parser.set_defaults(plain)
    found = _parse(parser, "command line", None, flags)
    if "evaluate" in sections and "train" not in sections:
        profile = profile_settings(found["evaluate.profile"])
        parser.set_defaults({key: value for key, value in profile.items() if key in plain})
        found = _parse(parser, "command line", None, flags)
    return parser.instantiate(found)


@dataclass
class Run:
    """What a command line asked for."""

    model: str  # the name that its outputs go by
    asked: str  # --model, as it was given
    algorithm: str
    config: Config
    filed: Config  # the same without the flags of the command line
    params: str  # the settings file, from here
    problems: DataConfig  # those that `prepare` makes of the model
    options: dict[str, Any]

    def command(self, name: str, more: str = "") -> str:
        """A command of the package for this model, as a user would type it."""
        params = "" if self.params == "params.yaml" else f" --params {shlex.quote(self.params)}"
        return f"`python -m replication.{name} --model {shlex.quote(self.asked)}{params}{more}`"


def load_run(
    sections: Sequence[str],
    argv: Sequence[str] | None = None,
    options: Sequence[tuple[str, dict[str, Any]]] = (),
    description: str = "",
) -> Run:
    """Parse a command line over params.yaml.

    Args:
        sections: names of the sections that the command reads; flags of any other are errors.
        argv: the command line; None reads sys.argv.
        options: further flags of the command, as (flag, keyword arguments of `add_argument`).
        description: first line of --help.

    Raises:
        UserError: an unknown model, algorithm, key or flag, or a value of the wrong type or range.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(sections)
    parser.description = description
    trains = "train" in sections
    about = "section of params.yaml (tiny, 4b, ...), or folder or hub id, whose outputs go by its last name and a hash"
    parser.add_argument("--model", default="tiny", help=about)
    if trains:
        parser.add_argument("--algorithm", default="e3rl", help="section of `algorithms` in params.yaml")
    parser.add_argument("--params", default="params.yaml", help="the settings file")
    for flag, keywords in options:
        parser.add_argument(flag, **keywords)

    first = _parse(parser, "command line", None, argv)
    path = Path(first.params)
    params = read_params(path)
    model, section = model_section(params, first.model, path)
    algorithm = first.algorithm if trains else ""
    if trains and algorithm not in params["algorithms"]:
        raise UserError(f"--algorithm {algorithm} is not known: {path} has {', '.join(params['algorithms'])}")
    layers = [(f"{path}, models.{model}", section)]
    if trains:
        layers.append((f"{path}, algorithms.{algorithm}", params["algorithms"][algorithm]))
    merged: dict[str, Any] = {}
    every = _parser(list(SECTIONS))  # every section is checked, whoever reads it
    for where, layer in layers:
        known = SECTIONS.keys() - (ALGORITHM_ONLY if ", models." in where else set())
        unknown = set(layer) - known
        if unknown:
            there = ", ".join(s for s in SECTIONS if s in known)
            raise UserError(f"{where}: no section {sorted(unknown)[0]!r}; the sections are {there}")
        _parse(every, where, layer, None)
        merged = _merge(merged, {name: value for name, value in layer.items() if name in sections})
    values, filed = (_settle(parser, sections, merged, flags) for flags in (argv, []))
    config, plain = (Config(**{name: getattr(v, name) for name in sections}) for v in (values, filed))
    if trains and config.rollout.engine == "server":
        raise UserError(
            "rollout.engine = server is for generate and evaluate: a training would have to send it new weights at "
            "every step; take --rollout.engine vllm or torch"
        )
    asked = {k: getattr(values, k) for k in (flag.lstrip("-").replace("-", "_") for flag, _ in options)}
    problems = every.instantiate(_parse(every, layers[0][0], section, None)).data
    return Run(model, first.model, algorithm, config, plain, os.path.relpath(path), problems, asked)


def own_place(run: Run, folder: str) -> str:
    """The folder of a base model's data or warm start, where the pipeline looks for it.

    Raises:
        UserError: the pipeline has this model, and with other settings: its runs would be of them.
    """
    pipeline = Path("params.yaml")
    if (run.config != run.filed or run.params != str(pipeline)) and pipeline.exists():
        matrix = read_params(pipeline).get("matrix")
        bases = matrix.get("bases") if isinstance(matrix, dict) else None
        if isinstance(bases, list) and run.model in bases:
            raise UserError(f"{folder} is the pipeline's, of params.yaml's settings: choose another place by --out")
    return folder


def data_of(run: Run, needed: str = "train.jsonl") -> Path:
    """The folder of the prepared problems: --data, or where `prepare` puts them.

    Args:
        run: with the option --data.
        needed: files that the command reads there, as a pattern.

    Raises:
        UserError: there are none; it names the command that makes them.
    """
    folder = Path(run.options["data"] or f"data/{run.model}")
    if any(folder.glob(needed)):
        return folder
    data, more = run.problems, f" --out {shlex.quote(str(folder))}" if run.options["data"] else ""
    if data.task == "files" and data.train is None:
        more += " --data.train.path FILE --data.benchmarks '{NAME: {path: FILE}}'"
    elif "benchmarks" in needed and not (data.heldout_problems or data.benchmarks):
        more += " --data.heldout_problems 128" if data.task != "files" else " --data.benchmarks '{NAME: {path: FILE}}'"
    raise UserError(
        f"{folder / needed} does not exist: name prepared problems by --data, or run {run.command('prepare', more)}"
    )


def check_start(run: Run) -> None:
    """Raise a `UserError` where there is no policy to start from, or an `OSError` where its weights cannot be read."""
    if run.config.rollout.engine == "vllm" and getattr(find_spec("vllm"), "origin", None) is None:  # a folder has none
        raise UserError(
            f"rollout.engine = vllm needs vLLM: `{installing('vllm')}` beside a GPU, `make vllm` without one, or "
            "--rollout.engine torch"
        )
    pretrained, checkpoint = run.config.policy.pretrained, run.options.get("checkpoint")
    warmstart = Path("runs/warmstart") / run.model
    if not (pretrained or checkpoint or warmstart.is_dir()):
        if run.problems.task == "files":
            raise UserError(
                f"--model {run.asked} names no policy: give the folder or hub id of one, or set policy.pretrained"
            )
        raise UserError(f"{warmstart} does not exist: run {run.command('warmstart')} first")
    folder = Path(checkpoint or pretrained or warmstart)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_file():
            path.open("rb").close()
