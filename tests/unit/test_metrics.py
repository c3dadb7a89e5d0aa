"""Every number of an evaluation against scikit-learn or a count written out."""

import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from engram.errors import UserError
from engram.training import metrics


def evaluation(size: int, classes: int, seed: int = 0, sharp: float = 2.0):
    rng = np.random.default_rng(seed)
    logits = sharp * rng.normal(size=(size, classes))
    labels = rng.integers(0, classes, size)
    logits[np.arange(size), labels] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), labels


def summarise(probabilities, labels):
    names = [f"{i}.png" for i in range(len(labels))]
    return metrics.summary(probabilities, labels, names, [f"class {k}" for k in range(probabilities.shape[1])])


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 60), st.integers(2, 9), st.integers(0, 1000))
def test_it_agrees_with_scikit_learn(size, classes, seed):
    probabilities, labels = evaluation(size, classes, seed)
    found, predicted = summarise(probabilities, labels), probabilities.argmax(axis=1)
    every = list(range(classes))
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=every, zero_division=0
    )
    for k, row in enumerate(found["per_class"]):
        assert row["name"] == f"class {k}"
        assert row["examples"] == support[k]
        assert [row["precision"], row["recall"], row["f1"]] == pytest.approx([precision[k], recall[k], f1[k]])
    assert found["confusion"] == sklearn_metrics.confusion_matrix(labels, predicted, labels=every).tolist()
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    rows = probabilities.astype(np.float64)
    rows /= rows.sum(axis=1, keepdims=True)
    theirs = sklearn_metrics.log_loss(labels, rows, labels=every)
    assert found["loss"] == pytest.approx(theirs, abs=1e-6)  # float32 rows add up to 1 only so far
    if classes > 5:
        top5 = sklearn_metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=every)
        assert found["top5"] == pytest.approx(top5)
    else:
        assert found["top5"] is None


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 200), st.integers(2, 9), st.integers(0, 1000))
def test_calibration_is_the_sum_over_15_bins(size, classes, seed):
    probabilities, labels = evaluation(size, classes, seed)
    confidence, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    rows, error = [], 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            rows.append((confidence[inside].mean(), right[inside].mean(), inside.sum()))
            error += inside.sum() / size * abs(right[inside].mean() - confidence[inside].mean())
    found = summarise(probabilities, labels)
    assert found["ece"] == pytest.approx(error)
    flat = [(row["confidence"], row["accuracy"], row["count"]) for row in found["reliability"]]
    assert flat == [pytest.approx(row) for row in rows]


def test_calibration_at_the_edges_of_the_bins():
    ece, rows = metrics.calibration(np.array([0.2, 0.2 + 1e-9, 1.0, 0.0]), np.array([True, False, True, False]), bins=5)
    assert [row["count"] for row in rows] == [2, 1, 1]  # 0.2 belongs below, 0 in the first bin, 1 in the last
    assert ece == pytest.approx((abs(1 - 0.2) + 0.2) / 4, abs=1e-8)


def test_worked_out_by_hand():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3], [0.25, 0.25, 0.5]])
    found = metrics.summary(probabilities, np.array([0, 1, 1, 1]), ["a", "b", "c", "d"], ["x", "y", "z"])
    assert found["examples"] == 4
    assert found["accuracy"] == 0.5
    assert found["loss"] == pytest.approx(-math.log(0.7 * 0.3 * 0.5 * 0.25) / 4)
    assert found["confusion"] == [[1, 0, 0], [0, 1, 2], [0, 0, 0]]
    assert found["classes"] == ["x", "y", "z"]
    assert found["per_class"] == [
        {"name": "x", "examples": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0},
        {"name": "y", "examples": 3, "precision": 1.0, "recall": pytest.approx(1 / 3), "f1": pytest.approx(0.5)},
        {"name": "z", "examples": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0},
    ]
    assert found["worst"] == [
        {"index": 1, "name": "b", "label": 1, "predicted": 2, "probability": 0.3, "confidence": 0.6},
        {"index": 3, "name": "d", "label": 1, "predicted": 2, "probability": 0.25, "confidence": 0.5},
    ]
    assert [row["index"] for row in found["samples"]] == [0, 1, 2, 3]


def test_it_has_exactly_the_keys_of_the_run_folder_and_is_json():
    found = summarise(*evaluation(40, 7))
    assert set(found) == {
        "examples", "loss", "accuracy", "top5", "ece", "reliability", "classes", "per_class", "confusion", "worst",
        "samples",
    }  # fmt: skip
    assert set(found["reliability"][0]) == {"confidence", "accuracy", "count"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_probability_of_0_costs_much_and_not_infinity():
    found = metrics.loss(np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32), np.array([1, 0]))
    assert found == pytest.approx(-math.log(metrics.FLOOR) / 2)
    assert 43 < found < 44
    small = np.array([[1e-30, 1.0]], dtype=np.float32)
    assert metrics.loss(small, np.array([0])) == pytest.approx(30 * math.log(10), rel=1e-6)


def test_of_equal_probabilities_the_lower_class_counts_first():
    flat = np.full((3, 8), 0.125)
    labels = np.array([0, 4, 5])
    assert metrics.top(flat, labels, 5) == pytest.approx(2 / 3)
    assert metrics.top(flat, labels, 1) == pytest.approx((flat.argmax(axis=1) == labels).mean())


def test_the_worst_are_the_most_confident_mistakes_and_at_most_24():
    probabilities, labels = evaluation(300, 4, sharp=3.0)
    found = summarise(probabilities, labels)["worst"]
    wrong = [i for i in range(300) if probabilities[i].argmax() != labels[i]]
    assert len(wrong) > 24
    expected = sorted(wrong, key=lambda i: (-probabilities[i].max(), i))[:24]
    assert [row["index"] for row in found] == expected
    assert all(row["predicted"] != row["label"] for row in found)
    assert all(row["name"] == f"{row['index']}.png" for row in found)


def test_equally_confident_mistakes_keep_the_order_of_the_data():
    assert metrics.worst(np.full(30, 0.5), np.ones(30, dtype=bool)).tolist() == list(range(24))


def test_samples_follow_the_data_and_not_the_predictions():
    (one, labels), (other, _) = evaluation(500, 10, seed=1), evaluation(500, 10, seed=2)
    first = [row["index"] for row in summarise(one, labels)["samples"]]
    assert first == [row["index"] for row in summarise(other, labels)["samples"]]
    assert len(set(first)) == 24
    counts = np.bincount(labels[first], minlength=10)
    assert set(counts.tolist()) == {2, 3}
    assert sorted(labels[first[:10]].tolist()) == list(range(10))  # a turn of every class first


def test_samples_are_spread_over_a_class_and_not_its_beginning():
    found = metrics.samples(np.zeros(240, dtype=int))
    assert found.tolist() == list(range(0, 240, 10))


@pytest.mark.parametrize(
    ("labels", "most", "expected"),
    [
        ([0, 0, 0, 1], 24, [0, 3, 1, 2]),  # all there are
        ([0] * 20 + [1], 4, [0, 20, 6, 13]),  # a rare class leaves its places to the others
        (list(range(50)), 5, [0, 10, 20, 30, 40]),  # more classes than places
        ([7, 3], 24, [1, 0]),
        ([2, 2, 2, 2, 5, 5, 5, 5], 3, [0, 4, 2]),
    ],
)
def test_samples_by_hand(labels, most, expected):
    assert metrics.samples(np.array(labels), most).tolist() == expected


def test_a_large_split_takes_no_time():
    probabilities, labels = evaluation(50_000, 100)
    names = np.array([f"{i}.png" for i in range(50_000)])
    start = time.process_time()
    metrics.summary(probabilities, labels, names, [str(k) for k in range(100)])
    assert time.process_time() - start < 1.0


def test_predictions_that_are_not_numbers_are_named():
    probabilities, labels = evaluation(5, 3)
    probabilities[2, 1] = np.nan
    with pytest.raises(UserError, match=r"no number for 1 of 5 examples, first 2\.png"):
        summarise(probabilities, labels)


def test_no_examples_are_refused():
    with pytest.raises(UserError, match="no example"):
        metrics.summary(np.zeros((0, 3)), np.zeros(0, dtype=int), [], ["a", "b", "c"])


@pytest.mark.parametrize(
    ("shape", "labels", "names"),
    [((2, 3), [0, 3], 2), ((2, 3), [-1, 0], 2), ((2, 2), [0, 1], 2), ((3, 3), [0, 1], 2), ((2, 3), [0, 1], 3)],
)
def test_arrays_that_do_not_belong_together_are_a_mistake_of_the_caller(shape, labels, names):
    with pytest.raises(ValueError, match="labels"):
        metrics.summary(np.ones(shape), np.array(labels), ["x"] * names, ["a", "b", "c"])


def test_labels_out_of_range_are_told_with_their_range():
    with pytest.raises(ValueError, match="labels from 1 to 4 of 3 classes"):
        metrics.summary(np.ones((2, 3)), np.array([1, 4]), ["x", "y"], ["a", "b", "c"])


def test_it_needs_no_torch():
    code = "import sys, engram.training.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
