"""The precision of the arithmetic: what `auto` means on the device at hand."""

from functools import cache
from typing import Literal

import torch

from pipeline.runtime.processes import pick_device
from pipeline.settings.section import Precision

Resolved = Literal["float32", "bfloat16"]


@cache
def has_bfloat16() -> bool:
    """The device has instructions for bfloat16: without them it is slower than float32, up to many times.

    Of an x86 processor that is AVX512-BF16 or AMX; others say it through oneDNN.
    """
    if (device := pick_device()).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    known = torch.cpu.get_capabilities()
    if known.get("architecture") in ("x86_64", "AMD64"):
        return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def resolve(precision: Precision) -> Resolved:
    """`auto` as bfloat16 where the device has instructions for it, else float32; others as they are."""
    if precision == "auto":
        return "bfloat16" if has_bfloat16() else "float32"
    return precision
