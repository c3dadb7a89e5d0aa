"""The clinic in a run: it sees what goes wrong and changes nothing."""

import json
import signal
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import engram
from engram.clinic import arrays
from engram.clinic.clinic import Clinic
from engram.errors import UserError
from engram.training import watch
from engram.training.train import resume

PLAIN = {"model": "mlp", "epochs": 2, "device.threads": "1", "device.precision": "float32"}


def weights(folder):
    return load_file(folder / "weights" / "last.safetensors")


def rows(folder, kind):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == kind]


def test_weights_are_bit_identical_with_and_without_it(tmp_path):
    settings = {**PLAIN, "optimizer.lr": 3.0, "model": "mlp", "regularizer": "dropout:0.2"}  # sick, and random
    watched = engram.train(**settings, clinic="full", output=str(tmp_path / "full"))
    engram.train(**settings, clinic="none", output=str(tmp_path / "none"))
    assert watched.findings
    one, other = weights(tmp_path / "full"), weights(tmp_path / "none")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_it_finds_is_said_when_it_is_found_and_written_in_the_order_to_be_read_in(tmp_path):
    said = []
    run = engram.train(**PLAIN, **{"optimizer.lr": 50.0}, output=str(tmp_path / "run"), sinks=[said.append])
    written = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert written == [one.to_dict() for one in run.findings]
    assert written[0]["diagnosis"] == "lr_too_high"
    assert written[0]["severity"] == "critical"
    told = [row for row in said if row["event"] == "finding"]
    assert told == rows(tmp_path / "run", "finding")
    assert {row["finding"]["diagnosis"] for row in told} == {row["diagnosis"] for row in written}
    events = [row["event"] for row in said]
    assert events.index("finding") < events.index("epoch")  # while it trains, not after
    closing = dict(said[-1]["lines"])
    assert closing["findings"].startswith("lr too high (critical)")


def test_what_was_measured_lies_in_the_run_folder(tmp_path):
    engram.train(**PLAIN, clinic="standard", output=str(tmp_path / "run"))
    measured = arrays.read(tmp_path / "run" / "probes" / "clinic.npz")
    assert measured["layer_step"].tolist()[0] == 0
    assert measured["layer_step"].tolist()[-1] == measured["loss_step"].tolist()[-1] == 20


def test_none_leaves_no_files(tmp_path):
    run = engram.train(**PLAIN, clinic="none", output=str(tmp_path / "run"))
    assert run.findings == []
    assert not (tmp_path / "run" / "findings.json").exists()
    assert not (tmp_path / "run" / "probes").exists()


def test_a_clinic_that_fails_is_said_once_and_the_run_goes_on(tmp_path, monkeypatch):
    def fails(self, *given, **more):
        raise RuntimeError("no more")

    monkeypatch.setattr(Clinic, "step", fails)
    said = []
    sick = {"initializer": "normal:5"}  # found before the first step, and kept
    run = engram.train(**PLAIN, **sick, output=str(tmp_path / "run"), sinks=[said.append])
    assert run.reason == "finished"
    written = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert [one.diagnosis for one in run.findings] == [row["diagnosis"] for row in written] != []
    notices = [row["text"] for row in said if row["event"] == "notice"]
    assert notices == ["the clinic looks no further: RuntimeError: no more"]


def test_a_resumed_run_says_nothing_twice(tmp_path):
    class Stops:
        def __call__(self, row):
            if row["event"] == "epoch" and row["epoch"] == 1:
                signal.raise_signal(signal.SIGINT)

    settings = {**PLAIN, "optimizer.lr": 50.0, "epochs": 3}
    first = engram.train(**settings, output=str(tmp_path / "run"), sinks=[Stops()])
    assert first.reason == "interrupted"
    assert first.findings
    said = []
    second = resume(tmp_path / "run", sinks=[said.append])
    again = {row["finding"]["diagnosis"] for row in said if row["event"] == "finding"}
    worst = {one.diagnosis for one in first.findings if one.severity == "critical"}
    assert not again & worst
    assert worst <= {one.diagnosis for one in second.findings}
    measured = arrays.read(tmp_path / "run" / "probes" / "clinic.npz")["layer_step"].tolist()
    assert measured[0] == 0, "what was measured before the stop is still there"
    assert measured == sorted(set(measured))


def test_an_unknown_level_is_refused():
    with pytest.raises(UserError, match="clinic cannot be 'ful'"):
        engram.train(**PLAIN, clinic="ful")


@pytest.mark.parametrize(
    ("shape", "batch", "accumulate", "examples"),
    [
        ((1, 8, 8), 128, 1, 1024),
        ((1, 8, 8), 16, 1, 128),  # eight batches
        ((3, 224, 224), 64, 1, 64),  # a batch: its layers are what memory is known to hold
        ((3, 224, 224), 64, 8, 8),
        ((3, 224, 224), 1, 1, 2),
    ],
)
def test_the_probe_takes_no_more_than_a_step_does(shape, batch, accumulate, examples):
    assembled = SimpleNamespace(
        state=SimpleNamespace(reviewer=SimpleNamespace(batch_size=batch)),
        parts=SimpleNamespace(accumulate=accumulate),
        prepared=SimpleNamespace(shape=shape),
    )
    assert watch._probed(assembled) == examples
