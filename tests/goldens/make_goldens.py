"""Write the goldens of TRL's and verl's losses and advantages.

Runs in a virtual environment of their own (docs/objectives.md), never imports `replication`, and copies no loss: TRL's
are those of a real GRPOTrainer, verl's those of its core_algos.

    python tests/goldens/make_goldens.py tests/goldens
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import sys
import tempfile
import types
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from torch import Tensor

# Four completions of at most 7 tokens; values on padding are wild on purpose. [4, 7] each, in nats.
LOG_RATIO = [  # geometric mean of the ratios over a row: > 1, > 1, < 1, < 1
    [0.6, 0.22, -0.5, 0.05, -0.1, 0.3, 0.0],  # 0.22 lies between 1.2 and 1.28
    [1.3, -0.4, 0.1, 0.22, 2.0, -2.0, 0.7],  # 1.3 lies above 3, verl's second clip
    [-0.45, 0.25, 1.5, -1.5, 0.9, 0.2, -3.0],
    [-0.3, 0.15, 4.0, -0.05, -0.6, 0.1, -4.0],
]
OLD_LOGP = [
    [-1.2, -0.9, -0.4, -2.1, -0.7, -1.6, -0.3],
    [-2.4, -0.2, -1.1, -0.8, -5.0, -0.1, -3.0],
    [-0.6, -1.9, -4.0, -0.2, -2.0, -1.0, -0.5],
    [-0.5, -1.4, -6.0, -0.3, -1.0, -0.8, -7.0],
]
REFERENCE_LOGP = [
    [-0.9, -1.3, -0.8, -1.7, -0.2, -2.0, -0.6],
    [-1.5, -0.9, -0.7, -1.3, -0.4, -6.0, -1.0],
    [-1.6, -1.1, -0.3, -3.0, -1.0, -0.2, -2.0],
    [-1.1, -0.9, -2.0, -0.6, -2.2, -0.4, -1.0],
]
SAMPLED_LOGP = [  # by the sampler; ratios of OLD_LOGP's to these lie within and beyond each bound, one beyond exp(20)
    [-1.25, -2.0, -0.25, -4.5, -0.125, -0.75, -0.5],
    [-2.5, -1.0, -1.125, -26.0, -50.0, 0.0, -3.5],
    [-0.5, -1.0, -0.25, -8.0, 0.0, -2.5, -9.0],
    [-0.75, -0.5, -60.0, -0.25, -2.75, -0.5, -0.125],
]
MASKS = {
    "ragged": [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1, 0]],
    "empty_row": [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1, 0]],
}
ADVANTAGES: dict[str, Any] = {
    "row": [1.5, -0.8, 0.6, -1.2],
    "token": [
        [1.5, 1.5, -0.4, -0.4, -0.4, 0.9, 0.9],
        [-0.8, -0.8, 0.7, 0.7, 3.0, 3.0, -3.0],
        [0.6, -1.1, -2.0, 2.0, 1.0, 1.0, 1.0],
        [-1.2, 0.5, 2.0, 0.0, -0.3, -0.3, 5.0],
    ],
}
LONGEST = 9  # not 7, so that the width of the tensors is not taken for it
BETA = 0.1
REWARDS = [[1.0, 0.0, 0.25, 0.0], [0.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]  # three groups of four

TRL = {
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "gspo": {
        "loss_type": "grpo",
        "importance_sampling_level": "sequence",
        "epsilon": 3e-4,
        "epsilon_high": 4e-4,
    },
    "sapo": {"loss_type": "sapo"},
}
VERL = {
    "grpo": {"loss_mode": "vanilla", "loss_agg_mode": "seq-mean-token-mean"},
    "dr_grpo": {"loss_mode": "vanilla", "loss_agg_mode": "seq-mean-token-sum-norm", "loss_scale_factor": LONGEST},
    "dapo": {"loss_mode": "vanilla", "loss_agg_mode": "token-mean", "clip_ratio_high": 0.28},
    "gspo": {
        "loss_mode": "gspo",
        "loss_agg_mode": "seq-mean-token-mean",
        "clip_ratio_low": 3e-4,
        "clip_ratio_high": 4e-4,
    },
    "sapo": {"loss_mode": "sapo", "loss_agg_mode": "seq-mean-token-mean"},
}
NO_DUAL_CLIP = 1e6
CORRECTIONS = {"truncate": (None, 2.0), "mask": (0.5, 5.0)}  # bounds of the ratio
UNKNOWN = (0, 1)  # where the sampler's log-probability is nan in one more case


def tensors(mask: str, advantage: str) -> dict[str, Tensor]:
    """The inputs of a case, in double precision; logp is a leaf."""
    old = torch.tensor(OLD_LOGP, dtype=torch.float64)
    return {
        "logp": (old + torch.tensor(LOG_RATIO, dtype=torch.float64)).round(decimals=6).requires_grad_(),
        "old_logp": old,
        "sampled_logp": torch.tensor(SAMPLED_LOGP, dtype=torch.float64),
        "reference_logp": torch.tensor(REFERENCE_LOGP, dtype=torch.float64),
        "mask": torch.tensor(MASKS[mask]),
        "advantage": torch.tensor(ADVANTAGES[advantage], dtype=torch.float64),
    }


def grid() -> list[tuple[str, str, str, float]]:
    return [
        (algorithm, mask, advantage, beta)
        for algorithm in TRL
        for mask in MASKS
        for advantage in ADVANTAGES
        for beta in (0.0, BETA)
    ]


def case(variant: str, at: tuple[str, str, str, float], settings: dict[str, Any], loss: Tensor, logp: Tensor) -> dict:
    (grad,) = torch.autograd.grad(loss, logp)
    algorithm, mask, advantage, beta = at
    where = {"variant": variant, "algorithm": algorithm, "mask": mask, "advantage": advantage, "kl": beta}
    rounded = [[round(x, 10) for x in row] for row in grad.tolist()]
    return where | {"settings": settings, "loss": round(loss.item(), 10), "grad": rounded}


def tiny_policy(folder: str) -> None:
    """Save a Qwen3 of one layer and a tokenizer of five words; only what TRL's constructor and rollout need."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<pad>", "<eos>", "a", "b", "c"])}, "<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>").save_pretrained(folder)
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "head_dim": 8}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
    ends = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    Qwen3ForCausalLM(Qwen3Config(vocab_size=5, max_position_embeddings=32, **size, **heads, **ends)).save_pretrained(
        folder
    )


def trl_trainer(policy: str, settings: dict[str, Any]) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    args = GRPOConfig(
        output_dir=policy,
        use_cpu=True,
        bf16=False,
        report_to="none",
        num_generations=4,
        per_device_train_batch_size=12,
        max_completion_length=LONGEST,
        **settings,
    )
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=lambda completions, **_: [x for group in REWARDS for x in group],
        args=args,
        train_dataset=Dataset.from_dict({"prompt": ["a b"] * 12}),
    )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # the training loop sets it
    return trainer


def trl_correct(trainer: Any, t: dict[str, Tensor], correction: str) -> Tensor:
    """The importance_sampling_ratio of GRPOTrainer._generate_and_score_completions, its sampling and its forward pass
    replaced by the given log-probabilities. It takes twelve rows: the four, three times."""
    trainer.use_vllm = True  # no vLLM is made where the trainer is there already
    trainer.vllm_importance_sampling_correction = True
    trainer.vllm_importance_sampling_mode = f"token_{correction}"
    low, high = CORRECTIONS[correction]
    trainer.vllm_importance_sampling_clip_min, trainer.vllm_importance_sampling_clip_max = low, high
    rows, width = t["mask"].shape
    sampled = [[None if math.isnan(x) else x for x in row] for row in t["sampled_logp"].tolist()]  # as vLLM's
    generated = ([[2]] * 3 * rows, [[3] * width] * 3 * rows, t["mask"].tolist() * 3, ["b"] * 3 * rows, sampled * 3)
    trainer._generate = lambda prompts: (*generated, {}, None, None)
    old = t["old_logp"].repeat(3, 1)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (old, None, None)
    return trainer._generate_and_score_completions([{"prompt": "a b"}] * 3 * rows)["importance_sampling_ratio"][:rows]


def trl_loss(trainer: Any, t: dict[str, Tensor], weight: Tensor | None = None) -> Tensor:
    """GRPOTrainer._compute_loss, its forward pass replaced by the given log-probabilities."""
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (t["logp"], torch.zeros_like(t["logp"]), None)
    ids, prompt = torch.zeros_like(t["mask"]), torch.zeros(4, 1, dtype=torch.long)
    inputs = {
        "prompt_ids": prompt,
        "prompt_mask": prompt + 1,
        "completion_ids": ids,
        "completion_mask": t["mask"],
        "advantages": t["advantage"],
        "old_per_token_logps": t["old_logp"],
        "ref_per_token_logps": t["reference_logp"],
        "num_items_in_batch": t["mask"].sum(),
        "importance_sampling_ratio": weight,
    }
    return trainer._compute_loss(trainer.model, inputs)


def trl_goldens() -> dict[str, Any]:
    cases, advantages, weights = [], {}, {}
    with tempfile.TemporaryDirectory() as policy:
        tiny_policy(policy)
        for at in grid():
            algorithm, mask, advantage, beta = at
            for corrected in (False, True) if beta else (False,):
                settings = TRL[algorithm] | {"beta": beta, "use_bias_correction_kl": corrected}
                trainer, t = trl_trainer(policy, settings), tensors(mask, advantage)
                if not advantages.get(trainer.scale_rewards):
                    rollout = trainer._generate_and_score_completions([{"prompt": "a b"}] * 12)
                    advantages[trainer.scale_rewards] = rollout["advantages"].view(3, 4).tolist()
                loss = trl_loss(trainer, t)
                cases.append(case("corrected_kl" if corrected else "plain", at, settings, loss, t["logp"]))
            if not beta:
                continue
            for correction in CORRECTIONS:
                settings = TRL[algorithm] | {"beta": beta, "use_bias_correction_kl": False}
                trainer, t = trl_trainer(policy, settings), tensors(mask, advantage)
                weight = trl_correct(trainer, t, correction)
                if mask == "ragged":
                    weights[correction] = weight.tolist()
                cases.append(case(correction, at, settings, trl_loss(trainer, t, weight), t["logp"]))
            if (algorithm, mask, advantage) == ("grpo", "ragged", "token"):
                trainer, t = trl_trainer(policy, settings), tensors(mask, advantage)
                t["sampled_logp"][UNKNOWN] = math.nan
                weight = trl_correct(trainer, t, "truncate")
                cases.append(case("unknown", at, settings, trl_loss(trainer, t, weight), t["logp"]))
    return {"advantages": advantages, "overlong": trl_overlong(), "weights": weights, "cases": cases}


def trl_overlong() -> dict[str, Any]:
    from trl.rewards import get_soft_overlong_punishment

    length, longest, buffer = [3, 80, 81, 95, 100], 100, 20
    penalty = get_soft_overlong_punishment(longest, buffer)(completion_ids=[[1] * n for n in length])
    return {"length": length, "longest": longest, "buffer": buffer, "penalty": penalty}


def verl_core() -> tuple[Any, Any]:
    """verl's core_algos and its configs, without the packages' __init__ files, which import Ray."""
    spec = importlib.util.find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("verl is not installed here: pip install --no-deps verl==0.9.1 (docs/objectives.md)")
    for name in ("verl", "verl.workers", "verl.utils.profiler"):
        module = types.ModuleType(name)
        module.__path__ = [str(Path(spec.submodule_search_locations[0], *name.split(".")[1:]))]
        sys.modules[name] = module
    profiler: Any = sys.modules["verl.utils.profiler"]
    profiler.ProfilerConfig = importlib.import_module("verl.utils.profiler.config").ProfilerConfig
    core = importlib.import_module("verl.trainer.ppo.core_algos")
    return core, importlib.import_module("verl.workers.config")


def verl_correct(t: dict[str, Tensor], correction: str) -> Tensor:
    """The weights of verl.trainer.ppo.rollout_corr_helper; its container of tensors, which needs Ray, is left out."""
    protocol: Any = types.ModuleType("verl.protocol")
    protocol.DataProto = object
    sys.modules["verl.protocol"] = protocol
    helper = importlib.import_module("verl.trainer.ppo.rollout_corr_helper")
    low, high = CORRECTIONS[correction]
    bounds = str(high) if low is None else f"{low}_{high}"
    log_ratio = t["old_logp"] - t["sampled_logp"]
    return helper.compute_rollout_correction_weights(log_ratio, t["mask"], "token", bounds)[0]


def verl_loss(core: Any, config: Any, t: dict[str, Tensor], beta: float, correct: Tensor | None = None) -> Tensor:
    """The policy loss and the KL loss, added as verl.workers.utils.losses.ppo_loss adds them."""
    mask = t["mask"].bool()
    advantage = t["advantage"] if t["advantage"].ndim == 2 else t["advantage"][:, None].expand(mask.shape)
    policy_loss = core.get_policy_loss_fn(config.policy_loss.loss_mode)
    loss, _ = policy_loss(t["old_logp"], t["logp"], advantage, mask, config.loss_agg_mode, config, correct)
    if beta:
        kl = core.kl_penalty(t["logp"], t["reference_logp"], config.kl_loss_type)
        loss = loss + beta * core.agg_loss(kl, mask, config.loss_agg_mode, **config.global_batch_info)
    return loss


def verl_goldens() -> dict[str, Any]:
    core, configs = verl_core()
    index = np.repeat(np.arange(len(REWARDS)), 4)
    reward = torch.tensor(REWARDS, dtype=torch.float64).view(-1, 1)
    ones = torch.ones_like(reward)
    advantages = {
        name: core.compute_grpo_outcome_advantage(reward.clone(), ones, index, norm_adv_by_std_in_grpo=scaled)[0]
        for name, scaled in (("group", True), ("none", False))
    }
    single = core.compute_grpo_outcome_advantage(reward[:1].clone(), ones[:1], index[:1])[0].item()
    cases, weights = [], {}
    for at in grid():
        algorithm, mask, advantage, beta = at
        vanilla = VERL[algorithm]["loss_mode"] == "vanilla"
        for variant in ("plain", *CORRECTIONS) if beta else ("plain", "dual_clip", "local"):  # docs/objectives.md
            if variant == "dual_clip" and not vanilla:
                continue
            settings: dict[str, Any] = dict(VERL[algorithm])
            if vanilla:
                settings["clip_ratio_c"] = 3.0 if variant == "dual_clip" else NO_DUAL_CLIP
            t = tensors(mask, advantage)
            known = {k: v for k, v in settings.items() if k != "loss_mode"}
            known |= {"policy_loss": configs.PolicyLossConfig(loss_mode=settings["loss_mode"])}
            config = configs.ActorConfig(strategy="fsdp", rollout_n=4, ppo_micro_batch_size_per_gpu=4, **known)
            if variant != "local":  # what ppo_loss sets from the minibatch
                config.global_batch_info.update(
                    dp_size=1,
                    batch_num_tokens=t["mask"].sum().item(),
                    global_batch_size=4,
                    loss_scale_factor=config.loss_scale_factor,
                )
            weight = verl_correct(t, variant) if variant in CORRECTIONS else None
            if weight is not None and mask == "ragged":
                weights[variant] = weight.tolist()
            cases.append(case(variant, at, settings, verl_loss(core, config, t, beta, weight), t["logp"]))
    listed = {name: a.view(3, 4).tolist() for name, a in advantages.items()}
    alone = {"reward": 1.0, "advantage": single}
    return {"advantages": listed, "advantage_of_a_group_of_one": alone, "weights": weights, "cases": cases}


def write(path: Path, versions: dict[str, str], goldens: dict[str, Any]) -> None:
    """JSON with one case a line."""
    logp = tensors("ragged", "row")["logp"].tolist()
    inputs = {"logp": logp, "old_logp": OLD_LOGP, "reference_logp": REFERENCE_LOGP, "masks": MASKS}
    inputs |= {"sampled_logp": SAMPLED_LOGP, "corrections": CORRECTIONS, "unknown": UNKNOWN}
    inputs |= {"advantages": ADVANTAGES, "longest": LONGEST, "rewards": REWARDS}
    cases = ",\n".join(json.dumps(c) for c in goldens.pop("cases"))
    head = ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in {"versions": versions, "inputs": inputs, **goldens}.items())
    path.write_text(f'{{\n{head},\n"cases": [\n{cases}\n]\n}}\n')


def main() -> None:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    for library, goldens in (("trl", trl_goldens), ("verl", verl_goldens)):
        versions = {name: version(name) for name in (library, "torch", "transformers")}
        write(folder / f"{library}_losses.json", versions, goldens())


if __name__ == "__main__":
    main()
