"""What rollouts on vLLM take of a GPU, where `rollout.engine` is vllm. No figure here was measured on a GPU."""

from __future__ import annotations

from replication.planning.plan import Plan
from replication.rollout.vllm.engine import BLOCK, MEMORY

WORKSPACE = 2 * 2**30  # bytes beside weights and cache: activations of a prefill, CUDA graphs
AWAKE = 2**30  # bytes of it that stay while it sleeps: the graphs
BANDWIDTH_SHARE = 0.6  # of a GPU's memory bandwidth while decoding; 0.53 to 0.70 was reported of Qwen3-8B
PAGE = 16  # tokens of a page of the cache on a GPU
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


def row(p: Plan) -> int:
    """Bytes of the longest row's keys and values."""
    return token(p) * (p.prompt + p.longest)


def lack(p: Plan) -> str:
    """What vLLM would not start without, if that is so: room for one row. Empty where it has it, or is not used."""
    if not is_used(p) or cache(p) >= row(p):
        return ""
    advice = "raise rollout.gpu_share" if p.config.trainer.gpu_gib else "take fewer or shorter segments"
    gib = 2**30
    return (
        f"vLLM has no room for one row: {cache(p) / gib:.1f} GiB of its {held(p) / gib:.1f} GiB are left for keys and "
        f"values, of which the longest row takes {row(p) / gib:.1f} GiB: {advice}"
    )


def sent(p: Plan) -> list[tuple[float, int]]:
    """What is sent again with each segment, all that stands before it: how often a row does so, and tokens. The first
    attempt at the first segment is not among them: that is a prompt."""
    size = p.config.rollout.segment_tokens
    return [(p.erasures + (n > 0), p.prompt + n * size) for n in range(p.config.rollout.segments)]


def resent(p: Plan) -> float:
    """Tokens that a process sends again in a step: rows x (erasures x prompt + (1 + erasures) x the sum over the later
    segments n of prompt + n L)."""
    return p.rows * sum(often * tokens for often, tokens in sent(p))


def room(p: Plan) -> float:
    """Share of what the rows in flight have written, on average to the half, that the cache has room for."""
    return cache(p) / (token(p) * p.in_flight * (p.prompt + p.longest / 2))


def remembered(p: Plan) -> float:
    """Share of what is sent again that is still in the cache. With little room rows that are begun go on before others,
    so that it falls little, but where rows wait for their group, and others take their place. [O]: lines through what
    was measured on a CPU (docs/engines.md); on a GPU nothing was."""
    if p.erasures:
        return min(1.0, 0.4 + 0.3 * room(p))
    return 1.0 if room(p) >= 1 else 0.95


def recomputed(p: Plan) -> float:
    """Of those that are sent again, tokens that vLLM computes again: what it no longer remembers, and behind the last
    whole page, at least one."""
    page = PAGE if p.config.trainer.gpu_gib else BLOCK
    pages = p.rows * sum(often * ((tokens - 1) // page * page) for often, tokens in sent(p))
    return resent(p) - remembered(p) * pages


def decoding_pass(p: Plan, rows: float, bandwidth: float) -> float:
    """Seconds: weights in bfloat16 and the live cache, read at a share of the bandwidth; graphs cost no launches."""
    return (2 * p.sizes.read + rows * (p.prompt + p.longest / 2) * token(p)) / (bandwidth * BANDWIDTH_SHARE)


def push(p: Plan) -> float:
    """Seconds of new weights."""
    return 2 * p.sizes.parameters / PUSHING
