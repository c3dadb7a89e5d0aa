"""Weights from elsewhere: torchvision's outputs from torchvision's names, and every file that must be refused."""

import hashlib
import http.server
import json
import os
import pickle
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from engram import models, registry
from engram.errors import UserError
from engram.layers.auxiliary import without_auxiliary
from engram.training import pretrained

DATA = json.loads((Path(__file__).parent / "data/torchvision_resnets.json").read_text())["networks"]


def resnet(name: str = "resnet18", classes: int = 1000, seed: int = 0) -> nn.Module:
    rng = torch.Generator().manual_seed(seed)
    return models.build(name, shape=(3, 64, 64), num_classes=classes, rng=rng)


def official(name: str = "resnet18") -> tuple[dict[str, Tensor], Tensor]:
    """A checkpoint under torchvision's names, drawn by NumPy, and the input that torchvision was asked about."""
    rng = np.random.default_rng(0)
    tensors = {key: torch.from_numpy(np.asarray(draw(key, shape, rng))) for key, shape in DATA[name]["names"].items()}
    return tensors, torch.from_numpy(rng.standard_normal((2, 3, 64, 64)))


def draw(key: str, shape: list[int], rng: np.random.Generator) -> NDArray[Any]:
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    z = rng.standard_normal(shape)
    if key.endswith("running_var"):
        return 0.5 + z**2
    if key.endswith(("running_mean", "bias")):
        return 0.1 * z
    return 1 + 0.1 * z if len(shape) == 1 else z * np.sqrt(2 / np.prod(shape[1:]))


@pytest.mark.parametrize("name", DATA)
def test_gives_torchvisions_outputs(name: str, tmp_path: Path) -> None:
    tensors, x = official(name)
    torch.save(tensors, tmp_path / "official.pth")
    net = resnet(name).double().eval()
    loaded = pretrained.load(net, tmp_path / "official.pth", name)
    assert str(loaded) == f"{len(tensors)} tensors from official.pth"
    with torch.no_grad():
        scores = net(x)[:, :10]
    expected = torch.tensor(DATA[name]["outputs"], dtype=torch.float64)
    torch.testing.assert_close(scores, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "module.", "safetensors", "old torch", "half"])
def test_takes_the_usual_forms(wrap: str, tmp_path: Path) -> None:
    source, net = resnet(seed=1), resnet(seed=2)
    state, path = source.state_dict(), tmp_path / "weights.bin"
    if wrap == "safetensors":
        save_file(state, path)
    elif wrap == "module.":
        torch.save({f"module.{key}": tensor for key, tensor in state.items()}, path)
    elif wrap == "old torch":  # before torch 0.4.1 there was no num_batches_tracked, before 1.6 no zip archive
        old = {key: tensor for key, tensor in state.items() if "num_batches" not in key}
        torch.save(old, path, _use_new_zipfile_serialization=False)
    elif wrap == "half":
        torch.save(
            {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}, path
        )
    else:
        torch.save(state if wrap == "plain" else {wrap: state, "epoch": 3}, path)
    pretrained.load(net, path, "resnet18")
    for key, tensor in net.state_dict().items():
        expected = state[key].half().float() if wrap == "half" and tensor.is_floating_point() else state[key]
        assert torch.equal(tensor, expected), key


def test_a_head_for_other_classes_stays_fresh(tmp_path: Path) -> None:
    torch.save(official()[0], tmp_path / "official.pth")
    net = resnet(classes=5)
    head = {key: tensor.clone() for key, tensor in net.head.state_dict().items()}
    loaded = pretrained.load(net, tmp_path / "official.pth", "resnet18")
    assert loaded.fresh == ("head.weight", "head.bias")
    assert str(loaded).endswith("fresh: head.weight, head.bias")
    assert all(torch.equal(tensor, head[key]) for key, tensor in net.head.state_dict().items())
    torch.testing.assert_close(net.stem[0].weight, official()[0]["conv1.weight"].float())


def refused(net: nn.Module, path: Path, name: str = "resnet18") -> str:
    """The message; the network must be as it was, and the message short."""
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with pytest.raises(UserError) as refusal:
        pretrained.load(net, path, name)
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
    assert len(str(refusal.value).splitlines()) <= 5
    return str(refusal.value)


def test_of_another_network(tmp_path: Path) -> None:
    torch.save(official("resnet50")[0], tmp_path / "fifty.pth")
    message = refused(resnet(), tmp_path / "fifty.pth")
    assert "another network than resnet18" in message
    assert "not in the network: stages.0.0.conv3.weight and" in message
    assert "other shapes: stages.0.0.conv1.weight and" in message
    assert "(64x64x1x1 in the file, 64x64x3x3 in the network)" in message
    assert "next: engram show models resnet18" in message


def test_lacking_a_layer(tmp_path: Path) -> None:
    tensors = official()[0]
    del tensors["layer3.1.bn2.running_mean"]
    torch.save(tensors, tmp_path / "less.pth")
    assert "not in the file: stages.2.1.norm2.running_mean\n" in refused(resnet(), tmp_path / "less.pth")


def test_a_head_of_another_width_is_no_head_for_other_classes(tmp_path: Path) -> None:
    tensors = resnet(classes=5).state_dict()
    tensors["head.weight"] = torch.zeros(7, 100)
    torch.save(tensors, tmp_path / "wide.pth")
    assert "other shapes: head.weight" in refused(resnet(classes=5), tmp_path / "wide.pth")


@pytest.mark.parametrize("form", ["zip", "old torch", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_cut_short(form: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    net = models.build("lenet5", shape=(1, 28, 28), num_classes=10)
    if form == "safetensors":
        save_file(net.state_dict(), path)
    else:
        torch.save(net.state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "damaged" in refused(net, path, "lenet5")


class Hostile:
    """Unpickling it would create the file that it names."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("form", ["zip", "old torch", "pickle", "hidden in a state dict"])
def test_code_in_a_file_never_runs(form: str, tmp_path: Path) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Hostile(trace)))
    elif form == "hidden in a state dict":
        torch.save({**official()[0], "extra": Hostile(trace)}, path)
    else:
        torch.save(Hostile(trace), path, _use_new_zipfile_serialization=form == "zip")
    message = refused(resnet(), path)
    assert "damaged" in message
    assert not trace.exists()
    if form != "pickle":
        assert "posix.system" in message or "nt.system" in message
    torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    assert trace.exists()  # the test would notice if it ran


@pytest.mark.parametrize("content", [{"a": 1}, [torch.zeros(2)], torch.zeros(3), {"state_dict": {"a": "b"}}])
def test_no_state_dict(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    assert "is no state dict" in refused(resnet(), tmp_path / "other.pt")


def test_no_file_a_folder_and_some_text(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused(resnet(), tmp_path / "none.pth")
    assert "cannot be read: Is a directory" in refused(resnet(), tmp_path)
    (tmp_path / "notes.txt").write_text("these are not the weights you are looking for\n" * 9)
    assert "is damaged, or no file of weights" in refused(resnet(), tmp_path / "notes.txt")


# Downloads, from a server on this machine.


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a local server hands out in torchvision's place."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    folder = tmp_path / "home"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(pretrained, "HOME", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("ENGRAM_CACHE", str(tmp_path / "cache"))
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def offer(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = home / "resnet18-test.pth"
    torch.save(official()[0], path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(pretrained, "official", lambda name: (path.name, digest))
    return path


def test_downloads_once_and_loads(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = offer(home, monkeypatch)
    seen: list[tuple[int, int]] = []
    net = resnet()
    pretrained.load(net, "torchvision", "resnet18", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (file.stat().st_size,) * 2
    torch.testing.assert_close(net.stem[0].weight, official()[0]["conv1.weight"].float())
    file.unlink()
    pretrained.load(resnet(), "torchvision", "resnet18")  # from the cache


def test_a_file_with_another_digest_is_not_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = offer(home, monkeypatch)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="another SHA-256"):
        pretrained.load(resnet(), "torchvision", "resnet18")


def test_offline_says_where_to_put_the_file(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offer(home, monkeypatch)
    monkeypatch.setattr(pretrained, "HOME", "http://127.0.0.1:9/")
    with pytest.raises(UserError) as refusal:
        pretrained.load(resnet(), "torchvision", "resnet18")
    assert f"put it at {tmp_path / 'cache' / 'weights' / 'resnet18-test.pth'}" in str(refusal.value)


def test_where_torchvision_has_no_weights_the_nearest_is_named() -> None:
    with pytest.raises(UserError, match="no weights for 'resnet20'") as refusal:
        pretrained.load(resnet("resnet20"), "torchvision", "resnet20")
    assert "resnet18" in str(refusal.value)


@pytest.mark.parametrize(
    "name", [one for one in registry.names("model") if "weights" in registry.find("model", one).facts]
)
def test_official_files_carry_the_beginning_of_their_digest(name: str) -> None:
    file, sha256 = pretrained.official(name)
    stem, _, digits = file.removesuffix(".pth").rpartition("-")
    assert stem
    assert re.fullmatch("[0-9a-f]{8}", digits)
    assert sha256.startswith(digits)
    assert len(sha256) in (8, 64)


def test_the_beginning_of_a_digest_is_enough_and_a_wrong_one_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = offer(home, monkeypatch)
    _, sha256 = pretrained.official("resnet18")
    monkeypatch.setattr(pretrained, "official", lambda name: (file.name, sha256[:8]))
    assert pretrained.download("resnet18").is_file()
    monkeypatch.setattr(pretrained, "official", lambda name: (file.name, "0" * 8))
    with pytest.raises(UserError, match="its SHA-256 is not 00000000"):
        pretrained.download("resnet18")


def test_heads_that_only_training_has_may_be_missing_in_a_file(tmp_path: Path) -> None:
    net = models.build("googlenet", shape=(3, 64, 64), num_classes=5)
    file = tmp_path / "plain.pt"
    torch.save(without_auxiliary(net.state_dict()), file)
    other = models.build("googlenet", shape=(3, 64, 64), num_classes=5)
    heads = {name: p.clone() for name, p in other.state_dict().items() if name.startswith("auxiliary")}
    taken = pretrained.load(other, file, "googlenet")
    assert str(taken).endswith("; fresh: auxiliary heads")
    for name, p in other.state_dict().items():
        assert torch.equal(p, heads[name] if name in heads else net.state_dict()[name])
