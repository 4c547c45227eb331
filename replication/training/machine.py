"""What this machine and these settings can run; imports nothing slow, so that a refusal comes at once."""

from __future__ import annotations

from replication.config import Config, TrainerConfig
from replication.errors import UserError


def check_gpus(trainer: TrainerConfig, model: str) -> None:
    """Raise a `UserError` where the run asks for more or larger GPUs than there are."""
    import torch

    if trainer.kernels == "liger" and not torch.cuda.is_available():
        raise UserError("trainer.kernels liger runs on CUDA GPUs, and this machine has none: leave it at torch")
    if not trainer.gpu_gib:
        if torch.cuda.is_available() and torch.cuda.device_count() < trainer.devices:
            raise UserError(
                f"trainer.devices = {trainer.devices}, and this machine has {torch.cuda.device_count()} GPUs"
            )
        return
    have = [torch.cuda.get_device_properties(i).total_memory / 2**30 for i in range(torch.cuda.device_count())]
    if len(have) < trainer.devices or min(have, default=0) < 0.95 * trainer.gpu_gib:
        found = f"{len(have)} with {min(have):.0f} GiB" if have else "none"
        raise UserError(
            f"--model {model} needs {trainer.devices} CUDA GPUs of {trainer.gpu_gib} GiB a node, and this "
            f"machine has {found}: run it where they are, set trainer.devices and trainer.gpu_gib to what fits "
            "your GPUs (--plan says what does), or use --model tiny"
        )


def check_settings(config: Config) -> None:
    """Raise a `UserError` for settings that contradict each other.

    These are: truncated sampling, whose draws are not from the distribution that is trained; more processes than the
    strategy has; problems that do not divide among them; fused kernels and adapters.
    """
    rollout, train, trainer = config.rollout, config.train, config.trainer
    world = trainer.devices * trainer.nodes
    if rollout.top_k or rollout.top_p < 1:
        raise UserError(
            f"rollout.top_k = {rollout.top_k} and rollout.top_p = {rollout.top_p}: training draws from the whole "
            "distribution, 0 and 1; for an evaluation set evaluate.top_k and evaluate.top_p"
        )
    if trainer.strategy == "single" and world > 1:
        raise UserError(f"trainer.strategy single runs 1 process, not {world}: use ddp or deepspeed_zero2")
    if trainer.kernels == "liger" and config.policy.lora_rank:
        raise UserError(
            "trainer.kernels liger is not for policy.lora_rank: adapters are merged on the CPU, where these kernels do "
            "not run"
        )
    if train.prompts % (train.minibatches * world):
        raise UserError(
            f"train.prompts = {train.prompts} cannot be dealt evenly to {train.minibatches} minibatches x {world} "
            "processes: use a multiple"
        )


def training_dtype(trainer: TrainerConfig) -> str:
    """Type that the weights are loaded in: DeepSpeed's own where it would cast them, else of full precision."""
    return "bfloat16" if trainer.precision == "bf16" and "zero" in trainer.strategy else "float32"
