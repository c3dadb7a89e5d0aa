"""`engram train --fix`: a sick run is run again with the remedy, and nothing of that is silent."""

import json

from cli.commands import SHORT, engram, refused


def test_a_rate_a_thousand_times_too_high_is_cured_step_by_step(tmp_path):
    done = engram("train", *SHORT, "--optimizer.lr", "50", "--fix", "--output", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lr too high is critical; the same run once more: a tenth of the learning rate" in done.stdout
    runs = sorted(folder.name for folder in tmp_path.iterdir())
    assert runs[0] == "run"
    assert "--optimizer.lr 5.0" in done.stdout
    first, last = (json.loads((tmp_path / one / "findings.json").read_text()) for one in (runs[0], runs[-1]))
    assert first[0]["diagnosis"] == "lr_too_high"
    assert "lr_too_high" not in {one["diagnosis"] for one in last if one["severity"] == "critical"}
    page = tmp_path / runs[-1] / "comparison.html"
    assert f"side by side {page.relative_to(tmp_path)}" in done.stdout
    assert all(one in page.read_text() for one in runs)
    judged = [
        json.loads((tmp_path / one / "evaluation" / "validation.json").read_text()) for one in (runs[0], runs[-1])
    ]
    assert judged[0]["accuracy"] < 0.5 < judged[1]["accuracy"]


def test_a_healthy_run_is_not_run_again(tmp_path):
    done = engram("train", *SHORT, "--fix", "--output", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing critical was found, so nothing is run again" in done.stdout
    assert [folder.name for folder in tmp_path.iterdir()] == ["run"]


def test_without_the_clinic_there_is_nothing_to_fix(tmp_path):
    message = refused("train", *SHORT, "--fix", "--clinic", "none", cwd=tmp_path)
    assert "--fix needs the clinic" in message
    assert not list(tmp_path.iterdir())


def test_a_finding_is_printed_when_it_is_found(tmp_path):
    done = engram("train", *SHORT, "--optimizer.lr", "50", "--output", "run", cwd=tmp_path)
    lines = done.stdout.splitlines()
    found = next(at for at, line in enumerate(lines) if line.startswith("critical, step 8: lr too high: "))
    assert lines[found + 1].startswith("    try: ")
    assert found < next(at for at, line in enumerate(lines) if line.startswith("epoch   train loss"))
    assert any(line.startswith("findings     lr too high (critical)") for line in lines)
