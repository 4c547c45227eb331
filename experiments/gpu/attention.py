"""Attention at the shapes of decoding: which kernel is chosen, what a new length costs, how near to the bandwidth."""

from __future__ import annotations

import statistics
from typing import Any

import torch
import torch.nn.functional as F

from experiments.gpu.device import bandwidth, cudnn, milliseconds, on_cuda, place
from experiments.gpu.groups import Setting
from experiments.gpu.rows import Rows, Skipped

NAMES = {-1: "error", 0: "math", 1: "flash", 2: "efficient", 3: "cuDNN", 4: "overrideable"}
HEADS, GROUP, WIDTH = 8, 4, 128  # of Qwen3-4B and 8B: key heads, queries of each, width
NEW = 8  # lengths not seen before


def random(*shape: int) -> torch.Tensor:
    """Numbers in bfloat16."""
    return torch.randn(*shape, device=place(), dtype=torch.bfloat16)


def share(rows: Rows, nbytes: float, spent: float) -> str:
    """What the reading of so many bytes in so many milliseconds is of the copy's bandwidth."""
    return f"{nbytes / spent / 1e9 / bandwidth(rows):.0%} of the copy's bandwidth"


def kernels(rows: Rows, setting: Setting) -> None:
    """A decoding pass's attention, with the mask that the embedded engine makes; a pass has a length that is new."""
    heads, group, width = (2, 2, 16) if setting.tiny else (HEADS, GROUP, WIDTH)
    for r, live in [(2, 40)] if setting.tiny else [(32, 4352), (64, 4352), (32, 8400)]:
        held = [random(r, live + 64, heads, width) for _ in range(2)]
        q = random(r, heads, group, width)  # as transformers packs the queries of a key head
        block = torch.ones(r, 1, 32, live + 64, dtype=torch.bool, device=place())

        def attend(extra: int, masked: bool = True) -> Any:
            k, v = (h[:, : live + extra].transpose(1, 2) for h in held)  # noqa: B023 - called in this turn
            mask = block[:, :, 3:4, : live + extra] if masked else None  # noqa: B023
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # noqa: B023

        name, nbytes = f"{r} rows, {live:,} live", 2 * r * live * heads * width * 2
        k, v = (h[:, :live].transpose(1, 2) for h in held)
        chosen = int(torch._fused_sdp_choice(q, k, v, block[:, :, 3:4, :live]))
        rows.add(f"{name}: kernel of a masked pass", NAMES.get(chosen, str(chosen)), note="torch's choice, cuDNN on")
        for label, on in (("cuDNN on", True), ("cuDNN off", False)):
            with cudnn(on):
                attend(0)
                new = [milliseconds(lambda i=i: attend(i), 1, 0) for i in range(1, NEW + 1)]  # type: ignore[misc]
                seen = milliseconds(lambda: attend(5), 20)
            note = "a pass has one, in its first layer"
            rows.add(f"{name}, {label}: a length not seen before", statistics.median(new), "ms", note=note)
            rows.add(f"{name}, {label}: one seen before", seen, "ms", note=share(rows, nbytes, seen))
        with cudnn(False):
            spent = milliseconds(lambda: attend(0, masked=False), 20)
        rows.add(f"{name}, without a mask", spent, "ms", note=share(rows, nbytes, spent))


def flex(rows: Rows, setting: Setting) -> None:
    """Kernels that read of each row only as much as it has: flex attention's for decoding, and torch's varlen."""
    if not on_cuda():
        raise Skipped("flex attention is compiled for a GPU: there is none")
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    compiled = torch.compile(flex_attention, dynamic=False)
    for r, bucket in [(2, 256)] if setting.tiny else [(32, 8448), (96, 4352)]:
        k, v = (random(r, bucket, HEADS, WIDTH).transpose(1, 2) for _ in range(2))
        q = random(r, HEADS * GROUP, 1, WIDTH)
        lengths = torch.randint(bucket // 4, bucket, (r,), device=place())

        def inside(b: Any, h: Any, at: Any, key: Any) -> Any:
            return key < lengths[b]  # noqa: B023

        mask = create_block_mask(inside, r, None, 1, bucket, device=str(place()))
        seen = (torch.arange(bucket, device=place()) < lengths[:, None])[:, None, None]
        with torch.inference_mode():
            out = compiled(q, k, v, block_mask=mask, enable_gqa=True)
            plain = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
            spent = milliseconds(lambda: compiled(q, k, v, block_mask=mask, enable_gqa=True), 20)  # noqa: B023
        name, nbytes = f"{r} rows of unequal length, up to {bucket:,}", 2 * int(lengths.sum()) * HEADS * WIDTH * 2
        rows.add(f"{name}: flex decoding", spent, "ms", note=share(rows, nbytes, spent))
        rows.add(f"{name}: flex decoding against masked", float((out - plain).abs().max()), "", "<= 0.05")
    varlen(rows)


def varlen(rows: Rows) -> None:
    """Torch's own flash attention over rows of their own lengths, where this torch has it."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return
    r, live = 32, 4352
    q, (k, v) = random(r * GROUP, HEADS, WIDTH), (random(r * live, HEADS, WIDTH) for _ in range(2))  # packed, too
    of_q, of_k = (torch.arange(r + 1, device=place(), dtype=torch.int32) * n for n in (GROUP, live))
    spent = milliseconds(lambda: varlen_attn(q, k, v, of_q, of_k, GROUP, live), 20)
    nbytes = 2 * r * live * HEADS * WIDTH * 2
    rows.add(f"{r} rows of {live:,}: varlen_attn", spent, "ms", note=share(rows, nbytes, spent))
