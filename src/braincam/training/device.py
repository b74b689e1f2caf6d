"""Which device trains, in which precision."""

from __future__ import annotations

import torch

from braincam.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """ "auto" → CUDA, else Apple's MPS, else the CPU; any other name must be available.

    Raises:
        ConfigError: the named device is unknown or not available here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" makes tensors that hold nothing
    except Exception as error:  # each kind of device fails in its own way
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(f"device: {name!r} is not available here ({reason}); use auto, cpu, cuda or mps") from error
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """ "auto" → bfloat16 where the device multiplies in it, else float32."""
    if name == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # AVX-512 without its bf16 instructions emulates them, slower than float32
        probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return bool(probe and probe())
    return False


def describe_device(device: torch.device) -> str:
    """A device's name for people, such as "cuda (NVIDIA A100)" or "cpu (2 threads)"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return str(device)


def name_of(precision: torch.dtype) -> str:
    """A precision's name for people, such as "bfloat16"."""
    return str(precision).removeprefix("torch.")
