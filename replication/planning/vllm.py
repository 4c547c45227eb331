"""What rollouts on vLLM take of a GPU, where `rollout.engine` is vllm. No figure here was measured on a GPU."""

from __future__ import annotations

from replication.planning.plan import Plan
from replication.rollout.vllm.engine import MEMORY

WORKSPACE = 2 * 2**30  # bytes beside weights and cache: activations of a prefill, CUDA graphs
AWAKE = 2**30  # bytes of it that stay while it sleeps: the graphs
BANDWIDTH_SHARE = 0.6  # of a GPU's memory bandwidth while decoding; 0.53 to 0.70 was reported of Qwen3-8B
PUSHING = 10e9  # bytes a second of weights into the engine; others report 6 to 20 of a 14B model


def is_used(p: Plan) -> bool:
    return p.config.rollout.engine == "vllm"


def held(p: Plan) -> int:
    """Bytes while it samples: its share of the GPU; on a CPU a copy of the weights, and its cache."""
    if p.config.trainer.gpu_gib:
        return int(p.config.rollout.gpu_share * p.config.trainer.gpu_gib * 2**30)
    return p.element * p.sizes.parameters + MEMORY


def asleep(p: Plan) -> int:
    """Bytes while the policy is trained; on a CPU nothing sleeps."""
    return AWAKE if p.config.trainer.gpu_gib else held(p)


def cache(p: Plan) -> int:
    """Bytes of keys and values that it has room for."""
    if not p.config.trainer.gpu_gib:
        return MEMORY
    return max(0, held(p) - WORKSPACE - 2 * p.sizes.parameters)


def token(p: Plan) -> int:
    """Bytes of a token in its cache: 2 x layers x K x d, 2 each on a GPU, else those of a weight."""
    element = 2 if p.config.trainer.gpu_gib else p.element
    return 2 * p.sizes.layers * p.sizes.kv_heads * p.sizes.head_dim * element


def rows_at_once(p: Plan) -> float:
    """Rows that decode together: those in flight, as far as there is room for rows that are half written."""
    return max(1.0, min(p.in_flight, cache(p) / (token(p) * (p.prompt + p.longest / 2))))


def decoding_pass(p: Plan, rows: float, bandwidth: float) -> float:
    """Seconds: weights in bfloat16 and the live cache, read at a share of the bandwidth; graphs cost no launches."""
    return (2 * p.sizes.read + rows * (p.prompt + p.longest / 2) * token(p)) / (bandwidth * BANDWIDTH_SHARE)


def push(p: Plan) -> float:
    """Seconds of new weights."""
    return 2 * p.sizes.parameters / PUSHING
