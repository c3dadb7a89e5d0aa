"""The clinic around training as people do it: several processes, compiled, scaled and skipped, accumulated.

Everywhere the weights must come out bit for bit as without it, and what is measured must be what the step used.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.clinic.clinic import Clinic

CLASSES = 3
STEPS = 9


class Unusual(nn.Module):
    """In-place activations, a shared module, functions, a frozen part, dropout, batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.frozen = nn.Conv2d(4, 4, 1).requires_grad_(False)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(self.shared(x), inplace=True)
        x = torch.tanh(self.shared(x))
        x = self.dropout(self.frozen(x)).mean((2, 3))
        return self.head(x)


X = torch.randn(32, 1, 6, 6, generator=torch.Generator().manual_seed(7))
Y = torch.arange(32) % CLASSES

Loop = Callable[[nn.Module, torch.optim.Optimizer, Clinic | None], None]


def plain(net: nn.Module, optimizer: torch.optim.Optimizer, clinic: Clinic | None) -> None:
    for _ in range(STEPS):
        loss = F.cross_entropy(net(X), Y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if clinic is not None:
            clinic.step(loss)


def accumulated(net: nn.Module, optimizer: torch.optim.Optimizer, clinic: Clinic | None) -> None:
    """A step in four parts; the clinic is told of each."""
    for _ in range(STEPS):
        optimizer.zero_grad()
        for part in range(4):
            loss = F.cross_entropy(net(X[part::4]), Y[part::4]) / 4
            loss.backward()
            if part == 3:
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
            if clinic is not None:
                clinic.step(loss)


SKIPPED = (2, 5)  # steps whose gradient overflows


def scaled(net: nn.Module, optimizer: torch.optim.Optimizer, clinic: Clinic | None) -> None:
    """As with mixed precision: the loss is scaled, and a step whose gradient is not finite is left out."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(STEPS + len(SKIPPED)):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(net(X).float(), Y)
        scaler.scale(loss * (float("inf") if step in SKIPPED else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        if clinic is not None:
            clinic.step(loss)


class Small(nn.Sequential):
    """What compiles in seconds."""

    def __init__(self) -> None:
        layers = nn.Flatten(), nn.Linear(36, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True)
        super().__init__(*layers, nn.Linear(4, CLASSES))


def train(
    loop: Loop,
    *,
    watched: bool,
    wrap: Callable[[nn.Module], nn.Module] = lambda net: net,
    build: Callable[[], nn.Module] = Unusual,
) -> tuple:
    """(the network's state, the next random numbers, the clinic) of training from one start."""
    torch.manual_seed(3)
    net = build()
    outer = wrap(net)
    optimizer = torch.optim.Adam([one for one in net.parameters() if one.requires_grad], lr=1e-2)
    clinic = Clinic(outer, optimizer, probe=(X, Y)) if watched else None
    loop(outer, optimizer, clinic)
    if clinic is not None:
        clinic.finish()
        assert not [one for one in clinic.findings if "could not be measured" in one.says]
    return net.state_dict(), torch.rand(3), clinic


def check_same(one: tuple, other: tuple) -> None:
    assert torch.equal(one[1], other[1]), "random numbers moved on"
    for name, value in one[0].items():
        assert torch.equal(value, other[0][name]), name


@pytest.mark.parametrize("loop", [plain, accumulated, scaled])
def test_the_weights_are_the_same_bit_for_bit(loop: Loop) -> None:
    watched = train(loop, watched=True)
    check_same(train(loop, watched=False), watched)
    clinic = watched[2]
    assert clinic.steps == STEPS
    assert [one.step for one in clinic.history.weighed()] == [1, 2, 4, 8]
    assert [one.step for one in clinic.history.probed()] == [1, 2, 4, 8, 9]
    weights = clinic.history.weighed()[-1].weights
    assert [name for name, one in weights.items() if not one.optimized] == ["frozen.weight", "frozen.bias"]
    assert weights["frozen.weight"].gradient is None
    assert weights["shared.weight"].gradient > 0


def test_gradients_are_those_after_accumulating_and_clipping() -> None:
    clinic = train(accumulated, watched=True)[2]
    norms = [one.gradient for one in clinic.history.weighed() if one.gradient is not None]
    assert max(norms) <= 1.0 + 1e-5
    free = train(plain, watched=True)[2].history.weighed()
    assert any(one.gradient and one.gradient != pytest.approx(1.0, rel=1e-3) for one in free)


def test_steps_that_were_left_out_are_no_steps_and_gradients_are_unscaled() -> None:
    clinic = train(scaled, watched=True)[2]
    assert clinic.steps == STEPS
    assert len(clinic.history.losses) == STEPS
    first = clinic.history.weighed()[0]
    torch.manual_seed(3)
    net = Unusual()
    torch.manual_seed(3)
    Unusual()  # as many draws as in training, so that dropout is the same
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(net(X).float(), Y)
    loss.backward()
    total = sum(one.grad.square().sum().item() for one in net.parameters() if one.grad is not None) ** 0.5
    assert first.gradient == pytest.approx(total, rel=1e-3)


def eager(net: nn.Module) -> nn.Module:
    return torch.compile(net, backend="aot_eager")


def inductor(net: nn.Module) -> nn.Module:
    return torch.compile(net)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [eager, inductor])
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of the compiler itself
def test_compiled_networks(wrap: Callable[[nn.Module], nn.Module]) -> None:
    if wrap is inductor and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("there is no compiler")
    torch._dynamo.reset()
    build = Unusual if wrap is eager else Small
    alone = train(plain, watched=False, wrap=wrap, build=build)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    watched = train(plain, watched=True, wrap=wrap, build=build)
    check_same(alone, watched)
    assert len(watched[2].history.probed()) >= 4
    # the second network is compiled once more and not again for the probe
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2 * graphs


PROCESSES = """
import os
import sys
from contextlib import nullcontext

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, sys.argv[1])
from test_clinic_wrapped import STEPS, Unusual, X, Y
from engram.clinic.clinic import Clinic

rank, place, parts, level = int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)


def train(watched):
    torch.manual_seed(3)
    net = DistributedDataParallel(Unusual())
    torch.manual_seed(10 + rank)  # dropout differs between processes
    optimizer = torch.optim.SGD([one for one in net.parameters() if one.requires_grad], lr=0.05, momentum=0.9)
    clinic = Clinic(net, optimizer, probe=(X, Y), level=level) if watched else None
    told = clinic.examine() if watched else []
    gradients = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        for part in range(parts):
            mine = slice(2 * part + rank, None, 2 * parts)
            with net.no_sync() if part < parts - 1 else nullcontext():
                loss = F.cross_entropy(net(X[mine]), Y[mine]) / parts
                loss.backward()
            if part == parts - 1:
                optimizer.step()
            if watched:
                told += clinic.step(loss)
        gradients.append(sum(one.grad.square().sum().item() for one in net.parameters() if one.grad is not None) ** 0.5)
    if watched:
        told += clinic.judged(1, 1.0, 0.5, 1.0, 0.5) + clinic.finish()
    return net, clinic, gradients, told, torch.rand(3)


alone, _, _, _, draws = train(False)
net, clinic, gradients, told, draws_watched = train(True)
for (name, one), other in zip(alone.state_dict().items(), net.state_dict().values(), strict=True):
    assert torch.equal(one, other), name
assert torch.equal(draws, draws_watched)
assert not [one for one in clinic.findings if "could not be measured" in one.says], clinic.findings
if rank == 0:
    assert clinic.steps == STEPS
    assert len(clinic.history.probed()) >= 4
    for moment in clinic.history.weighed():
        if moment.gradient is not None:  # what came out of the exchange between the processes
            assert abs(moment.gradient - gradients[moment.step - 1]) < 1e-5 * gradients[moment.step - 1]
else:
    assert told == [] and clinic.findings == [] and clinic.steps == 0 and not clinic.history.moments
dist.barrier()
dist.destroy_process_group()
print("done", flush=True)
os._exit(0)  # threads of the exchange may outlive it, and end an interpreter that shuts down by itself
"""


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "level"), [(1, "full"), (3, "standard")])
def test_two_processes(tmp_path: Path, parts: int, level: str) -> None:
    """DistributedDataParallel: the first process measures, nobody waits for it, and all compute what they would."""
    (tmp_path / "work.py").write_text(PROCESSES, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    words = [str(Path(__file__).parent), "{rank}", str(tmp_path / "meeting"), str(parts), level]
    running = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "work.py"), *(word.format(rank=rank) for word in words)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in running:
            out, error = process.communicate(timeout=180)
            assert (process.returncode, out.strip()) == (0, "done"), error
    finally:
        for process in running:
            process.kill()
            process.wait()
