"""A label at every step: what is read, what counts, and a run from its file to its figures."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import engram
from engram.augment import Batch
from engram.data.step_labels import StepPool, hold_out, open_step_labels
from engram.data.text_pool import IGNORED
from engram.errors import UserError
from engram.models.recurrent import lstm
from engram.tasks.label import Label
from engram.training.judge import judge


def signs(count, length=12, seed=0):
    """Signals whose every step is to say whether their sum so far is above 0; the first two steps do not count."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, length)).astype(np.float32)
    y = (np.cumsum(x, 1) > 0).astype(np.int64)
    y[:, :2] = -1
    return x, y


@pytest.fixture
def file(tmp_path):
    (x, y), (u, v) = signs(240), signs(60, seed=1)
    path = tmp_path / "steps.npz"
    np.savez(path, x_train=x, y_train=y, x_test=u, y_test=v)
    return path


def test_signals_and_labels_are_read_as_they_stand(file):
    found = open_step_labels(file)
    x, y = signs(240)
    assert found.classes == ("0", "1")
    assert found.signals["train"].shape == (240, 1, 12)
    assert np.array_equal(found.signals["train"][:, 0], x)
    assert np.array_equal(found.labels["train"], np.where(y < 0, IGNORED, y))
    assert sorted(found.labels) == ["test", "train"]


def test_validation_is_held_out_by_seed_and_nothing_is_lost(file):
    found = open_step_labels(file)
    once, again, other = (hold_out(found, 0.25, seed) for seed in (0, 0, 1))
    assert len(once.labels["validation"]) == 60
    assert np.array_equal(once.signals["validation"], again.signals["validation"])
    assert not np.array_equal(once.signals["validation"], other.signals["validation"])
    both = np.concatenate([once.signals["train"], once.signals["validation"]])
    assert np.array_equal(np.sort(both.ravel()), np.sort(found.signals["train"].ravel()))
    assert hold_out(once, 0.5, 0) is once
    assert hold_out(found, 0.0, 0) is found


def test_a_pool_gives_the_signals_asked_for():
    x, y = signs(5)
    pool = StepPool("train", x[:, None], y, torch.device("cpu"))
    got_x, got_y = next(pool.batches([torch.tensor([3, 0])]))
    assert np.array_equal(got_x[:, 0].numpy(), x[[3, 0]])
    assert np.array_equal(got_y.numpy(), y[[3, 0]])
    assert (len(pool), pool.shape, pool.name(3)) == (5, (1, 12), "train[3]")


CASES = [
    ({"x_train": np.zeros((3, 4))}, "lacks y_train"),
    ({"x_train": np.zeros((3, 4)), "y_train": np.zeros((3, 5), int)}, "y_train has shape"),
    ({"x_train": np.zeros((3, 4)), "y_train": np.zeros(3, int)}, "y_train has shape"),
    ({"x_train": np.full((3, 4), np.nan), "y_train": np.zeros((3, 4), int)}, r"x_train\[0\] holds"),
    ({"x_train": np.zeros((3, 4)), "y_train": np.full((3, 4), 0.5)}, "y_train is float64"),
    ({"x_train": np.zeros((3, 4)), "y_train": np.full((3, 4), -1)}, "no label that counts"),
    ({"x_train": np.zeros((3, 4)), "y_train": np.full((3, 4), 2)}, "no step of class 0"),
    ({"x_train": np.array(["a"]), "y_train": np.zeros((1, 1), int)}, "x_train is <U1"),
    (
        {"x_train": np.zeros((3, 4)), "y_train": np.zeros((3, 4), int), "classes": np.array(["a"]),
         "x_test": np.zeros((1, 4)), "y_test": np.ones((1, 4), int)},
        "y_test holds the label 1",
    ),
    (
        {"x_train": np.zeros((3, 4)), "y_train": np.zeros((3, 4), int),
         "x_test": np.zeros((1, 2, 4)), "y_test": np.zeros((1, 4), int)},
        "different channels",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "told"), CASES, ids=[told for _, told in CASES])
def test_what_cannot_be_used_is_named(tmp_path, arrays, told):
    path = tmp_path / "steps.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=told):
        open_step_labels(path)


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        open_step_labels(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match="cannot be read"):
        open_step_labels(tmp_path / "bad.npz")
    with pytest.raises(UserError, match=r"is no \.npz file"):
        open_step_labels(tmp_path / "steps.csv")


def test_only_steps_that_count_enter_the_loss():
    torch.manual_seed(0)
    net = lstm(num_classes=2, in_channels=1, image_size=(12,), hidden_size=8, read="every").double()
    x, y = signs(4)
    x, y = torch.from_numpy(x)[:, None].double(), torch.from_numpy(np.where(y < 0, IGNORED, y))
    found = Label().measure(net, Batch(x), y, slice(1, 4), autocast=torch.no_grad)
    scores = net(x)[1:]
    for row in range(3):
        expected = F.cross_entropy(scores[row, 2:], y[1 + row, 2:])
        assert torch.isclose(found.losses[row], expected, rtol=1e-12)
        right = (scores[row, 2:].argmax(1) == y[1 + row, 2:]).double().mean()
        assert float(found.correct[row]) == pytest.approx(float(right))


def test_convolutions_name_every_step_too(file, tmp_path):
    run = engram.train(
        task="label", data=str(file), output=str(tmp_path / "run"), epochs=20, device={"threads": 1},
        optimizer={"lr": 1e-2}, model={"name": "tcn", "width": 8, "blocks": 2, "read": "every"},
        training={"batch_size": 32, "clinic": "none"},
    )  # fmt: skip
    assert run.evaluations["test"]["accuracy"] > 0.8


def test_a_run_learns_to_name_every_step_and_is_judged_again(file, tmp_path):
    run = engram.train(
        task="label", data=str(file), output=str(tmp_path / "run"), seed=0, epochs=30, device={"threads": 1},
        optimizer={"lr": 1e-2}, model={"name": "lstm", "hidden_size": 16, "read": "every"},
        training={"batch_size": 32, "clinic": "none"},
    )  # fmt: skip
    test = run.evaluations["test"]
    assert test["accuracy"] > 0.85  # the more frequent class of a step gives about a half
    assert (test["signals"], test["examples"]) == (60, 600)
    stored = json.loads((tmp_path / "run" / "evaluation" / "test.json").read_text())
    assert stored == test
    again, where = judge(tmp_path / "run")
    assert again["loss"] == pytest.approx(test["loss"], rel=1e-5)
    assert where == f"test of {file}"
    assert "recognises" in (tmp_path / "run" / "report.html").read_text()


def test_a_network_with_one_answer_is_refused(file, tmp_path):
    with pytest.raises(UserError, match=r"gives \(2, 2\) for 2 signals of 12 steps"):
        engram.train(task="label", data=str(file), model="gru", output=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
