"""What a run takes of a GPU's memory, part by part and phase by phase, from its settings and the model's sizes alone.

A step has four phases, of which the largest decides: the rollout, scoring (a micro-batch's forward pass up to its
logits), the backward pass through the blocks, and the optimizer's update. Bytes throughout, of one process. The
formulas follow what torch 2.13, transformers 5.23 and DeepSpeed 0.19.8 do; docs/memory.md works them out by hand.
"""

from __future__ import annotations

import math

from replication.planning import vllm
from replication.planning.plan import Plan
from replication.training.logprobs import chunk_tokens

Memory = dict[str, dict[str, int]]  # phase -> part -> bytes

BUCKET = 200_000_000  # elements of DeepSpeed's reduction buffers, as Lightning sets them
LIVE = 1_000_000_000  # elements of gathered weights under ZeRO-3 (stage3_max_live_parameters)
RESERVE = 0.08  # share of the memory left to CUDA, NCCL and fragmentation


def weights(p: Plan) -> int:
    """element x (parameters + adapters); ZeRO-3 shares them among all processes between passes, or off the GPU."""
    if p.stage == 3 and p.config.trainer.offload == "parameters":
        return 0
    return p.element * (p.sizes.parameters + p.sizes.adapters) // (p.world if p.stage == 3 else 1)


def gathered(p: Plan, rollout: bool) -> int:
    """ZeRO-3's whole weights beside its shares: all of them during a rollout, else at most LIVE elements."""
    if p.stage < 3:
        return 0
    whole = p.sizes.parameters + p.sizes.adapters
    return p.element * (whole if rollout else min(whole, LIVE))


def merged(p: Plan) -> int:
    """Copies of the blocks' linear layers with LoRA's adapters in them, from which the embedded engine samples."""
    return p.element * p.sizes.linear if p.sizes.adapters and not vllm.is_used(p) else 0


def reference(p: Plan) -> int:
    """A copy of the policy before RL, where the objective has a KL term; ZeRO-3 shares it too."""
    return p.element * p.sizes.parameters // (p.world if p.stage == 3 else 1) if p.config.objective.kl else 0


def gradients(p: Plan) -> int:
    """Single: 4 bytes a trained weight. DDP: 4, and 4 of its buckets. ZeRO: its share, 4. Offloaded: none on the GPU,
    but for the float32 sum of bfloat16 gradients under ZeRO-2, which goes to the machine's memory once an update."""
    if p.stage == 0:
        return p.trained * (4 if p.config.trainer.strategy == "single" else 8)
    return 0 if p.config.trainer.offload != "none" and not adds_up(p) else 4 * p.trained // p.shards


def adds_up(p: Plan) -> bool:
    """Whether each gradient is added into its share of a float32 sum as it comes: ZeRO-2's, of bfloat16 weights."""
    return p.stage == 2 and p.element == 2


def gradients_passing(p: Plan) -> int:
    """While a micro-batch passes: those of the micro-batches before it, if there are any. DDP keeps its buckets, ZeRO-3
    its share; ZeRO-2 holds its share of the sum, and of the newest unless it adds up."""
    if p.stage:
        return gradients(p) * (2 if p.stage == 2 and p.accumulates and not adds_up(p) else 1)
    return gradients(p) if p.accumulates else gradients(p) - 4 * p.trained


def optimizer(p: Plan) -> int:
    """AdamW's two moments, 8 bytes a trained weight; DeepSpeed also holds a float32 master, 12, and shares them."""
    if p.stage == 0:
        return 8 * p.trained
    return 0 if p.config.trainer.offload != "none" else 12 * p.trained // p.shards


def buffers(p: Plan) -> int:
    """During a backward pass: DeepSpeed's reduction buffers (two of BUCKET elements under ZeRO-2, one under ZeRO-3),
    and the gradient of the embedding or head twice (the sum over chunks of logits and the newest), unless frozen; once
    more where ZeRO-2 brings gradients to the machine's memory."""
    largest = 0 if p.sizes.adapters else 2 * p.sizes.largest * p.element
    if p.stage == 2 and p.config.trainer.offload != "none":
        largest += p.sizes.largest * p.element
    return largest + {0: 0, 2: 2, 3: 1}[p.stage] * BUCKET * p.element


def update(p: Plan) -> int:
    """While the optimizer steps: a root of the second moments of all tensors together on a GPU, of one at a time on the
    CPU (4 bytes each), and under DeepSpeed a copy of the share of the gradients (4) unless they add up."""
    if p.config.trainer.offload != "none":
        return 0
    if p.stage:
        return (4 if adds_up(p) else 8) * p.trained // p.shards
    return 4 * (p.trained if p.config.trainer.gpu_gib else min(p.trained, p.sizes.largest))


def kv_token(p: Plan) -> int:
    """Bytes of a token in the cache: 2 x layers x K x d x element; under autocast keys stay float32, values do not."""
    both = 4 + 2 if p.mixed else 2 * p.element
    return p.sizes.layers * p.sizes.kv_heads * p.sizes.head_dim * both


def kv_cache(p: Plan) -> int:
    """slots x (prompt + T) entries, and the prompts prefilled together, all but their last tokens."""
    g = p.config.rollout.group_size
    ahead = max(math.ceil(p.lanes / g), p.slots // (4 * g))
    return kv_token(p) * (p.slots * (p.prompt + p.longest) + min(ahead, p.groups) * (p.prompt - 1))


def rollout_logits(p: Plan) -> int:
    """lanes x (V of a decoding step: logits (element), log-probabilities and probabilities (4 each), and the cumulative
    distribution in float64 with the copy that `cumsum` makes (8 each); 4 more where some draw at another temperature;
    and 40 bytes of each token of the segment)."""
    logits = 2 if p.mixed else p.element
    each = logits + 24 + (4 if p.config.rollout.cool_fraction else 0)
    return p.lanes * (p.sizes.vocabulary * each + 40 * p.config.rollout.segment_tokens)


def training_logits(p: Plan) -> int:
    """A chunk x V x 16: float32 log-probabilities, and the three tensors of their size that the entropy takes."""
    return 16 * p.sizes.vocabulary * min(chunk_tokens(p.sizes.vocabulary), p.micro * p.longest)


def layer_activations(p: Plan) -> int:
    """Bytes a token that a block of Qwen3 or Llama saves for its backward pass.

    Each norm of width w: its input and the normalised one in float32 (bfloat16 weights: the latter in bfloat16), and a
    root (4). Outputs of the two norms before linear layers, D each (autocast: one bfloat16 copy a linear layer). The
    attention: queries, keys, values, output, (2 H + 2 K) d, and a float32 number a head. The feed-forward layer: gate,
    its activation, the other branch, their product, 4 I.

    Fused kernels save of a norm its input in its own type and a root, and of the feed-forward layer 3 I: the activation
    is made again.
    """
    s, low, fused = p.sizes, 2 if p.mixed else p.element, p.config.trainer.kernels == "liger"
    wide = 4 if p.mixed else p.element
    outer = wide if fused else 4 + wide  # bytes an element of what a norm saves
    norms = 2 * (s.hidden * outer + 4)
    inputs = s.hidden * (5 * 2 if p.mixed else 2 * p.element)
    inner = (s.heads + s.kv_heads) * (s.head_dim * (low if fused else 4 + low) + 4) if s.qk_norm else 0
    attention = 2 * (s.heads + s.kv_heads) * s.head_dim * low + 4 * s.heads
    adapters = 7 * p.config.policy.lora_rank * low  # what lies between the two matrices of each adapter
    return norms + inputs + inner + attention + (3 if fused else 4) * s.ffn * low + adapters


def saved_activations(p: Plan) -> int:
    """n x (layers x a block's, or with gradient checkpointing only the D inputs of each; the last norm's; the final
    states, D, gathered once more for the logits; ids and positions, 8 each), and without checkpointing under autocast
    the bfloat16 copies of the linear layers' weights."""
    s, wide = p.sizes, 4 if p.mixed else p.element
    checkpointing = p.config.trainer.gradient_checkpointing
    block = s.hidden * wide if checkpointing else layer_activations(p)
    ends = s.hidden * (4 + wide) + 4 + 2 * s.hidden * wide + 16
    casts = 2 * s.linear if p.mixed and not checkpointing else 0
    return p.tokens * (s.layers * block + ends) + casts


def layer_backward(p: Plan) -> int:
    """n x what the backward pass through a block takes beside what is saved: with gradient checkpointing its saved
    tensors made again; gradients of the feed-forward layer, 2 I (1 I by a fused kernel, which writes the others where
    the inputs were), and of the stream, 2 D."""
    s, low = p.sizes, 2 if p.mixed else p.element
    again = layer_activations(p) if p.config.trainer.gradient_checkpointing else 0
    ffn = (1 if p.config.trainer.kernels == "liger" else 2) * s.ffn
    return p.tokens * (again + ffn * low + 2 * s.hidden * (4 if p.mixed else p.element))


def record(p: Plan) -> int:
    """The completions themselves: 16 bytes a token while sampled (id, log-probability, entropy), 38 more as sequences
    (ids, positions, scored tokens, two masks, old log-probability, advantage, weight), and 4 where a correction scores
    them first."""
    again = 38 + 4 * p.config.scores_first
    return int(p.rows * ((1 + p.attempts) * again + 16) * (p.prompt + p.longest))


def memory(p: Plan) -> Memory:
    """Bytes on one GPU in each phase, part by part."""
    held = {"weights": weights(p), "reference": reference(p), "optimizer": optimizer(p)}
    grad = {"gradients": gradients(p)}
    kept = {"gradients": 0} if p.stage == 2 else grad  # ZeRO-2 frees them after the update, the others keep them
    passing = {"gradients": gradients_passing(p)}
    trained = {**held, **passing, "buffers": buffers(p), "record": record(p), "activations": saved_activations(p)}
    trained["gathered weights"] = gathered(p, rollout=False)
    backward = trained["activations"] + layer_backward(p)
    sampled = {"KV cache": kv_cache(p), "logits": rollout_logits(p), "gathered weights": gathered(p, rollout=True)}
    sampled["merged weights"] = merged(p)
    if vllm.is_used(p):  # asleep in the other phases
        sampled = {"vLLM": vllm.held(p), "gathered weights": gathered(p, rollout=True)}
        held["vLLM"] = trained["vLLM"] = vllm.asleep(p)
    return {
        "rollout": {**held, **kept, **sampled, "record": record(p)},
        "scoring": {**trained, "logits": training_logits(p)},
        "backward": {**trained, "activations": backward},
        "update": {**held, **grad, "buffers": update(p), "record": record(p)},
    }


def peak(p: Plan) -> int:
    """Bytes of the largest phase."""
    return max(sum(parts.values()) for parts in memory(p).values())


def host_memory(p: Plan) -> int:
    """Bytes of a machine's own memory, over its processes: while loading, `element` of each weight in every one, and of
    the reference policy's where the objective has a KL term; then, where offloading, 12 a trained weight of master and
    moments, 4 of gradients and 4 while they are accumulated there, `element` under ZeRO-2 on their way to the GPU, and
    with the parameters `element` of each weight, shared. The larger of the two; 0 where the processes run there anyway.
    """
    trainer, whole = p.config.trainer, (p.sizes.parameters + p.sizes.adapters) * p.element
    if not trainer.gpu_gib:
        return 0
    state = p.trained * ((16 if adds_up(p) else 20) + (p.element if p.stage == 2 else 0))
    state = state if trainer.offload != "none" else 0
    offloaded = (state + (whole if trainer.offload == "parameters" else 0)) * trainer.devices // p.shards
    copies = 2 if p.config.objective.kl else 1
    return max(copies * whole * trainer.devices, offloaded)


def available(p: Plan, machine: int) -> int:
    """Bytes that one process may fill: of its GPU, or its part of the machine's memory where no GPU is asked for."""
    whole = p.config.trainer.gpu_gib * 2**30 or machine // p.config.trainer.devices
    return int(whole * (1 - RESERVE))


def fits(p: Plan, machine: int) -> bool:
    """Whether the largest phase fits, and a row into vLLM; `machine` is this machine's memory in bytes."""
    return peak(p) <= available(p, machine) and not vllm.lack(p)
