"""What a run computes on, and why: each choice is made once, has a reason, and can be forced by the recipe."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from engram.decision import Decision
from engram.errors import UserError, nearest
from engram.recipe import Device
from engram.training.allocator import keep_freed_memory
from engram.training.threads import available_cores


@dataclass(frozen=True)
class Machine:
    """The device, the precision of the forward pass, the memory layout, and the reasons."""

    device: torch.device
    dtype: torch.dtype
    memory_format: torch.memory_format
    threads: int | None  # None: to be timed once the network is there
    compile: bool
    decisions: tuple[Decision, ...] = field(default=())

    def autocast(self) -> AbstractContextManager[Any]:
        """The forward pass in `dtype`; weights, losses and updates stay float32."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


def choose(wanted: Device, *, dimensions: int = 2, total_steps: int = 0) -> Machine:
    """Decide everything that `auto` leaves open.

    Args:
        dimensions: spatial axes of the inputs; channels-last exists for 2 and 3.
        total_steps: what compiling would have to pay back over, on an accelerator.

    Raises:
        UserError: a device that is not there, or a precision that it cannot compute in.
    """
    decisions: list[Decision] = []

    def decide(setting: str, value: object, reason: str) -> None:
        decisions.append(Decision(f"device.{setting}", str(value), reason))

    device, reason = find_device(wanted.name)
    decide("name", device, reason)
    dtype, reason = _precision(wanted.precision, device)
    decide("precision", str(dtype).removeprefix("torch."), reason)
    layout, reason = _layout(wanted.memory_format, dimensions)
    decide("memory_format", str(layout).removeprefix("torch."), reason)
    if wanted.allocator == "auto":
        done, reason = keep_freed_memory()
        decide("allocator", "keeps freed memory" if done else "system", reason)
    else:
        decide("allocator", "system", "asked for")
    compiled, reason = _compile(wanted.compile, device, total_steps)
    decide("compile", "on" if compiled else "off", reason)
    threads = None
    if wanted.threads != "auto":
        threads = int(wanted.threads)
        decide("threads", threads, "asked for")
    elif device.type != "cpu" or available_cores() == 1:
        threads = available_cores()
        decide(
            "threads", threads, "all cores; the network does not run on them" if device.type != "cpu" else "one core"
        )
    return Machine(device, dtype, layout, threads, compiled, tuple(decisions))


def find_device(name: str) -> tuple[torch.device, str]:
    """The device of that name and why it; `auto` takes an accelerator where there is one.

    Raises:
        UserError: no such device, with what is there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device()), "a CUDA device is there"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "an Apple GPU is there"
        return torch.device("cpu"), "no accelerator is there"
    try:
        device = torch.device(name)
    except RuntimeError:
        near = nearest(name, ("cpu", "cuda", "mps"))
        raise UserError(f"device {name!r} is not known", allowed="auto, cpu, cuda, cuda:N, mps", nearest=near) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise UserError(f"device {name!r} is not there: {there} CUDA devices found", then="engram doctor")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device 'mps' is not there: no Apple GPU found", then="engram doctor")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device {name!r} is not supported", allowed="auto, cpu, cuda, cuda:N, mps")
    return device, "asked for"


def processor_flags() -> frozenset[str]:
    """Instruction-set words of the first processor, as Linux names them; empty where that cannot be read."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


def _precision(name: str, device: torch.device) -> tuple[torch.dtype, str]:
    if name != "auto":
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
        if dtype == torch.bfloat16 and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise UserError(f"{device} cannot compute in bfloat16", allowed="float32")
        return dtype, "asked for"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "the device multiplies bfloat16 matrices in hardware"
        return torch.float32, "the device has no bfloat16 hardware"
    if device.type == "cpu":
        if "amx_bf16" in processor_flags():
            return torch.bfloat16, "the processor multiplies bfloat16 matrices in hardware (AMX)"
        return torch.float32, "the processor has no bfloat16 matrix unit (AMX)"
    return torch.float32, f"bfloat16 on {device.type} is not faster in general"


def _layout(name: str, dimensions: int) -> tuple[torch.memory_format, str]:
    if dimensions == 1:
        return torch.contiguous_format, "1-D inputs have no channels-last layout"
    last = torch.channels_last if dimensions == 2 else torch.channels_last_3d
    if name == "auto":
        return last, "convolutions run fastest with the channels last"
    return (last if name == "channels_last" else torch.contiguous_format), "asked for"


COMPILE_PAYS_BACK = 2000  # steps on an accelerator; compiling costs tens of seconds and gains about a fifth


def _compile(name: str, device: torch.device, total_steps: int) -> tuple[bool, str]:
    if name != "auto":
        return name == "on", "asked for"
    if device.type != "cuda":
        return False, "compiled steps were no faster than tuned eager ones here, and compiling takes up to minutes"
    if total_steps < COMPILE_PAYS_BACK:
        return False, f"under {COMPILE_PAYS_BACK} steps do not pay the compiling back"
    return True, f"{total_steps} steps pay the compiling back"


def describe_processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine() or os.name
