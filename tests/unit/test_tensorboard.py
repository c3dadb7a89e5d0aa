"""Event files hold what the rows of a run say; Trackio hears of findings where somebody tracks with it."""

import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engram.cli import app
from engram.cli.settings import split
from engram.clinic.finding import Finding, Remedy
from engram.errors import UserError
from engram.training import tensorboard, trackio
from engram.training.train import train

FOUND = Finding(
    "dead_relus",
    "critical",
    "98 % of the units of layer_1.relu are 0 for every example",
    means="they learn nothing",
    remedy=Remedy("a tenth of the rate", {"optimizer.lr": 0.01}),
    refuted_by="another batch",
    confidence=0.9,
    step=12,
    where=("layer_1.relu",),
)
ROWS: list[dict[str, Any]] = [
    {"event": "header", "lines": [("data", "digits_8x8"), ("folder", "runs/one")]},
    {"event": "start", "total_steps": 20},
    {"event": "step", "step": 10, "epoch": 0.5, "loss": 0.75, "lr": 0.1, "images_per_second": 1234.5},
    {"event": "finding", "step": 12, "finding": FOUND.to_dict()},
    {"event": "notice", "text": "nothing to draw"},
    {
        "event": "epoch",
        "epoch": 1,
        "step": 20,
        "train": {"loss": 0.5, "accuracy": 0.9},
        "validation": {"loss": 0.625, "accuracy": 0.875},
    },
    {"event": "end", "step": 20},
    {"event": "closing", "lines": []},
]


class Writer:
    """Stands in for torch's SummaryWriter."""

    def __init__(self, folder: str, **settings: object) -> None:
        self.folder, self.settings, self.told, self.closed = folder, settings, [], False
        written.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.told.append((name, value, step))

    add_text = add_scalar

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


written: list[Writer] = []


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    written.clear()
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)


@pytest.mark.usefixtures("stand_in")
def test_rows_become_scalars_and_text() -> None:
    with tensorboard.opened(Path("logs")) as (sink,):
        for row in ROWS:
            sink(row)
    (writer,) = written
    assert (writer.folder, writer.settings, writer.closed) == (str(Path("logs") / "one"), {}, True)
    told = {name: (value, step) for name, value, step in writer.told}
    assert told["run"] == ("- **data**: digits\\_8x8\n- **folder**: runs/one", 0)
    text, step = told.pop("findings/dead_relus")
    assert step == 12
    assert text.startswith("**critical: dead relus, step 12**\n\n- **seen**: 98 % of the units of layer\\_1.relu")
    assert "- **run**: engram train … --optimizer.lr 0.01" in text
    del told["run"]
    assert told == {
        "loss/batch": (0.75, 10),
        "lr": (0.1, 10),
        "images_per_second": (1234.5, 10),
        "loss/train": (0.5, 20),
        "loss/validation": (0.625, 20),
        "accuracy/train": (0.9, 20),
        "accuracy/validation": (0.875, 20),
    }


@pytest.mark.usefixtures("stand_in")
def test_a_resumed_run_takes_back_what_it_will_write_again() -> None:
    sink = tensorboard.TensorBoardSink(Path("logs"))
    sink(ROWS[2])  # before it is known where to write, nothing is
    sink(ROWS[0])
    sink({"event": "resumed", "step": 15})
    assert [(one.folder, one.settings, one.told) for one in written] == [("logs/one", {"purge_step": 16}, [])]


@pytest.mark.usefixtures("stand_in")
def test_a_run_that_fails_leaves_a_closed_file() -> None:
    def fails() -> None:
        with tensorboard.opened(Path("logs")) as (sink,):
            sink(ROWS[0])
            sink(ROWS[1])
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert written[0].closed


def test_without_the_package_nothing_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        app.main(["train", "--model", "mlp", "--tensorboard", "logs"])
    assert ended.value.code == 2
    assert "next: pip install tensorboard" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_option_is_none_of_the_recipe() -> None:
    words, settings = split(["train", "--tensorboard", "logs", "--epochs", "2"])
    assert (words, settings) == (["train", "--tensorboard", "logs"], {"epochs": "2"})


# the file itself, by a reader of its own


def records(content: bytes) -> Iterator[bytes]:
    """The payloads of a TFRecord file: length, its checksum, payload, its checksum."""
    place = 0
    while place < len(content):
        length, of_length = struct.unpack_from("<QI", content, place)
        payload = content[place + 12 : place + 12 + length]
        (of_payload,) = struct.unpack_from("<I", content, place + 12 + length)
        assert of_length == masked(content[place : place + 8])
        assert of_payload == masked(payload)
        yield payload
        place += 16 + length


def masked(content: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and shifted as TFRecord has it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field of a protocol buffer."""

    def varint(place: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = message[place]
            value |= (byte & 127) << shift
            place, shift = place + 1, shift + 7
            if byte < 128:
                return value, place

    place = 0
    while place < len(message):
        key, place = varint(place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = varint(place)
        elif kind == 1:
            (value,), place = struct.unpack_from("<d", message, place), place + 8
        elif kind == 5:
            (value,), place = struct.unpack_from("<f", message, place), place + 4
        else:
            length, place = varint(place)
            value, place = message[place : place + length], place + length
        yield number, value


def events(file: Path) -> list[tuple[str, Any, int]]:
    """(tag, number or text, step) of every summary: Event.step is field 2, .summary 5; Summary.value 1;
    Value.tag 1, .simple_value 2, .tensor 8; TensorProto.float_val 5, .string_val 8."""
    told = []
    for record in records(file.read_bytes()):
        event = dict(fields(record))
        for _, value in fields(event.get(5, b"")):
            parts = dict(fields(value))
            content: Any = parts.get(2)
            if 8 in parts:
                tensor = dict(fields(parts[8]))
                content = tensor[8].decode() if 8 in tensor else struct.unpack("<f", tensor[5])[0]
            told.append((parts[1].decode(), content, event.get(2, 0)))
    return told


@pytest.mark.filterwarnings("default")
def test_the_event_file(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with tensorboard.opened(tmp_path) as (sink,):
        for row in ROWS:
            sink(row)
    (file,) = (tmp_path / "one").glob("events.out.tfevents.*")
    told = {name: (value, step) for name, value, step in events(file)}
    assert told["loss/batch"] == (0.75, 10)
    assert told["accuracy/validation"] == (0.875, 20)
    assert told["images_per_second"] == (1234.5, 10)
    assert "dead relus" in told["findings/dead_relus/text_summary"][0]
    assert told["findings/dead_relus/text_summary"][1] == 12
    assert "digits" in told["run/text_summary"][0]


@pytest.mark.filterwarnings("default")
def test_a_whole_run_as_event_file(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with tensorboard.opened(tmp_path / "logs") as sinks:
        run = train(model="mlp", epochs=2, output=str(tmp_path / "run"), device={"threads": 1}, sinks=sinks)
    (file,) = (tmp_path / "logs" / "run").glob("events.out.tfevents.*")
    told = events(file)
    for kind, name, measure in (("step", "loss/batch", "loss"), ("epoch", "accuracy/train", None)):
        rows = [row for row in run.rows if row["event"] == kind]
        wanted = [(row["step"], row[measure] if measure else row["train"]["accuracy"]) for row in rows]
        found = [(step, value) for tag, value, step in told if tag == name]
        assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in wanted]


# Trackio


class Tracked(types.ModuleType):
    """Stands in for the package, with a run under way or without."""

    class AlertLevel:
        ERROR, WARN, INFO = "error", "warn", "info"

    def __init__(self, *, running: bool) -> None:
        super().__init__("trackio")
        self.running, self.alerts = running, []

    def alert(self, title: str, text: str | None = None, level: str = "warn") -> None:
        if not self.running:
            raise RuntimeError("Call trackio.init() before trackio.alert().")
        self.alerts.append((title, text, level))


def test_findings_are_alerts_of_the_run_that_is_tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    trackio.alert(ROWS[3])
    assert "trackio" not in sys.modules, "it is not imported for those who do not use it"
    monkeypatch.setitem(sys.modules, "trackio", Tracked(running=False))
    trackio.alert(ROWS[3])
    tracked = Tracked(running=True)
    monkeypatch.setitem(sys.modules, "trackio", tracked)
    for row in ROWS:
        trackio.alert(row)
    ((title, text, level),) = tracked.alerts
    assert (title, level) == ("critical: dead relus, step 12", "error")
    assert "try: a tenth of the rate" in text


@pytest.mark.filterwarnings("default")
def test_alerts_of_the_package_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    package = pytest.importorskip("trackio")
    heard: list[tuple[str, object]] = []
    monkeypatch.setattr(package.Run, "alert", lambda run, **given: heard.append((given["title"], given["level"])))
    trackio.alert(ROWS[3])  # before a run is begun
    package.context_vars.current_run.set(object.__new__(package.Run))
    try:
        trackio.alert(ROWS[3])
    finally:
        package.context_vars.current_run.set(None)
    assert heard == [("critical: dead relus, step 12", package.AlertLevel.ERROR)]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("in the way")
    sink = tensorboard.TensorBoardSink(tmp_path / "file")
    sink(ROWS[0])
    with pytest.raises(UserError, match="cannot be written"):
        sink(ROWS[1])
