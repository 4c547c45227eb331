"""A small model's log-probabilities and gradients by torch's kernels and by liger's, in Triton's interpreter, as JSON.

A process of its own: liger changes the classes of transformers, and Triton looks at TRITON_INTERPRET as it is imported.
"""

import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
import triton.language as tl
from small_models import small_model
from triton.runtime import interpreter

from replication.training.kernels import use_liger
from replication.training.logprobs import completion_logp

convert = interpreter._implicit_cvt


def converted(arg):
    """As on a GPU, a number with a point is a float32 of Triton's, which has a method `to`."""
    if isinstance(arg, float):
        return tl.tensor(interpreter.TensorHandle(np.array([arg], dtype=np.float32), tl.float32), tl.float32)
    return convert(arg)


def step(model):
    """Log-probabilities, gradients, and bytes that are saved for the backward pass of the second block."""
    torch.manual_seed(0)
    ids = torch.randint(5, 30, (2, 9))
    at = torch.arange(4, 9).expand(2, -1)
    weights = {w.untyped_storage().data_ptr() for w in model.parameters()}
    saved = {}

    def pack(tensor):
        if inside and tensor.untyped_storage().data_ptr() not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    inside = []
    block = model.model.layers[1]
    hooks = [
        block.register_forward_pre_hook(lambda *_: inside.append(1)),
        block.register_forward_hook(lambda *_: inside.clear()),
    ]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logp, _ = completion_logp(model, ids, at, ids[:, 4:], 1.0)
    logp.sum().backward()
    for hook in hooks:
        hook.remove()
    grads = [w.grad.clone() for w in model.parameters()]
    model.zero_grad()
    return logp.detach(), grads, sum(saved.values()) / ids.numel()


model = small_model(sys.argv[1])
logp, grads, bytes_torch = step(model)
use_liger(model)
interpreter._implicit_cvt = converted
import liger_kernel.ops.rms_norm as rms_norm  # noqa: E402

rms_norm.rsqrt = lambda x: tl.math.rsqrt(x)  # CUDA's own, which is not interpreted
fused_logp, fused_grads, bytes_liger = step(model)
apart = [float((a - b).abs().max() / a.abs().max()) for a, b in zip(grads, fused_grads, strict=True)]
found = {
    "logp": float((fused_logp - logp).abs().max()),
    "gradient": max(apart),
    "bytes": [bytes_torch, bytes_liger],
    "fused": sum("Liger" in f"{type(module).__name__} {module.forward}" for module in model.modules()),
}
print(json.dumps(found))
