"""`--help` answers at once: nothing that takes long is imported before it is needed."""

import subprocess
import sys

from cli.commands import ENVIRONMENT, engram

HEAVY = ("torch", "numpy", "altair", "vl_convert", "sklearn", "pyarrow", "PIL", "safetensors")


def test_help_imports_nothing_heavy():
    program = f"import sys, engram.cli.app; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_names_every_verb_and_every_setting(tmp_path):
    shown = engram("--help", cwd=tmp_path).stdout
    for verb in ("train", "resume", "compare", "evaluate", "predict", "show", "data", "report", "doctor"):
        assert verb in shown
    shown = engram("train", "--help", cwd=tmp_path).stdout
    for setting in ("--recipe", "--plan", "--optimizer", "--data.image_size", "--epochs", "--device.threads"):
        assert setting in shown


def test_help_has_the_defaults_of_the_task(tmp_path):
    shown = {task: engram("train", "--task", task, "--help", cwd=tmp_path).stdout for task in ("write", "label")}
    assert "as --task write has them" in shown["write"]
    assert "[char_lstm]" in shown["write"]
    assert "[lstm]" in shown["label"]


def test_the_version(tmp_path):
    from engram import __version__

    assert engram("--version", cwd=tmp_path).stdout.strip() == __version__
