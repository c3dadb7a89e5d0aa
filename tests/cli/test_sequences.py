"""Signals in one array, recurrent networks, one command: trained, evaluated, predicted, resumed, reported."""

import json

import numpy as np
import pytest

from cli.commands import engram, refused

SHORT = ("--epochs", "3", "--batch_size", "32", "--device.threads", "1", "--device.precision", "float32")


@pytest.fixture
def signals(tmp_path):
    """Two channels of 24 samples; which of three frequencies the first has is the class."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    phase = rng.uniform(0, 2 * np.pi, (300, 1))
    wave = np.sin(phase + np.arange(24) * np.array([0.3, 0.8, 1.6])[y][:, None])
    x = np.stack([wave, rng.normal(size=(300, 24))], 1).astype(np.float32)
    np.savez(tmp_path / "signals.npz", x=x, y=y)
    return tmp_path


@pytest.mark.slow
def test_signals_are_classified_end_to_end(signals):
    words = ("--model", "lstm", "--optimizer", "adam", "--optimizer.lr", "0.01", "--clip_norm", "1", "--output", "run")
    done = engram("train", "--data", "signals.npz", *words, *SHORT, cwd=signals)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (signals / "run" / "metrics.jsonl").read_text().splitlines()]
    epochs = [row for row in rows if row["event"] == "epoch"]
    assert epochs[-1]["validation"]["accuracy"] > 0.6  # a third by chance, of 30 or more signals
    for name in ("report.html", "findings.json", "weights/best.safetensors", "probes/clinic.npz"):
        assert (signals / "run" / name).exists(), name
    again = engram("evaluate", "run", "--split", "validation", cwd=signals)
    assert again.returncode == 0, again.stdout + again.stderr


def test_dropout_between_layers_is_refused_where_there_is_one(signals):
    message = refused("train", "--data", "signals.npz", "--model", "lstm", "--model.drop", "0.2", cwd=signals)
    assert "between layers, and there is one" in message
