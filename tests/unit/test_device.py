"""Every choice has a reason and can be forced; what is not there is refused."""

import pytest
import torch

from engram.errors import UserError
from engram.recipe import Device
from engram.training import allocator, device, threads


def decided(machine):
    return {one.setting: one.value for one in machine.decisions}


def test_every_choice_is_told_with_its_reason():
    machine = device.choose(Device(name="cpu"))
    assert {"device.name", "device.precision", "device.memory_format", "device.allocator", "device.compile"} <= set(
        decided(machine)
    )
    assert all(one.reason for one in machine.decisions)


@pytest.mark.parametrize(
    ("flags", "dtype"), [({"avx2"}, torch.float32), ({"avx2", "amx_bf16", "amx_tile"}, torch.bfloat16)]
)
def test_bfloat16_where_the_processor_multiplies_it(monkeypatch, flags, dtype):
    monkeypatch.setattr(device, "processor_flags", lambda: frozenset(flags))
    assert device.choose(Device(name="cpu")).dtype == dtype
    assert device.choose(Device(name="cpu", precision="float32")).dtype == torch.float32
    assert device.choose(Device(name="cpu", precision="bfloat16")).dtype == torch.bfloat16


def test_autocast_is_on_in_bfloat16_only():
    x, layer = torch.zeros(2, 3), torch.nn.Linear(3, 3)
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with device.choose(Device(name="cpu", precision=precision)).autocast():
            assert layer(x).dtype == dtype


def test_layouts_by_dimension():
    formats = [device.choose(Device(name="cpu"), dimensions=count).memory_format for count in (1, 2, 3)]
    assert formats == [torch.contiguous_format, torch.channels_last, torch.channels_last_3d]
    assert device.choose(Device(name="cpu", memory_format="contiguous")).memory_format == torch.contiguous_format


def test_threads_are_timed_unless_named(monkeypatch):
    monkeypatch.setattr(device, "available_cores", lambda: 4)
    assert device.choose(Device(name="cpu")).threads is None
    assert device.choose(Device(name="cpu", threads="3")).threads == 3
    monkeypatch.setattr(device, "available_cores", lambda: 1)
    assert device.choose(Device(name="cpu")).threads == 1


def test_compiling_is_a_choice():
    assert not device.choose(Device(name="cpu"), total_steps=10**6).compile
    assert device.choose(Device(name="cpu", compile="on")).compile


def test_devices_that_are_not_there():
    with pytest.raises(UserError, match="did you mean: cuda"):
        device.find_device("cudda")
    with pytest.raises(UserError, match="is not there: 0 CUDA devices"):
        device.find_device("cuda:5") if torch.cuda.device_count() == 0 else pytest.skip("CUDA devices are there")
    with pytest.raises(UserError, match="is not supported"):
        device.find_device("meta")


def test_the_allocator_is_left_alone_where_it_is_another(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("musl", "1.2"))
    assert allocator.keep_freed_memory()[0] is False
    monkeypatch.undo()
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libjemalloc.so.2")
    assert allocator.keep_freed_memory() == (False, "another allocator is preloaded") or (
        allocator.platform.libc_ver()[0] != "glibc"
    )


def test_cores_are_those_this_process_may_use():
    assert 1 <= threads.available_cores() <= 4096
