"""`--help` answers at once: nothing that takes long is imported before it is needed."""

import ast
import inspect
import pydoc
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import engram as package
from cli.commands import ENVIRONMENT, engram

HEAVY = ("torch", "numpy", "altair", "vl_convert", "sklearn", "pyarrow", "PIL", "safetensors")


def test_help_imports_nothing_heavy():
    program = f"import sys, engram.cli.app; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_and_those_that_can_be_called_import_nothing_heavy():
    program = (
        "import sys, engram; engram.study, engram.trace\n"
        f"print([name for name in ('engram.study.study', 'engram.trace.record', *{HEAVY}) if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


CALLED = {"study": "engram.study.study", "trace": "engram.trace.record"}


@pytest.mark.parametrize("name", CALLED)
def test_a_package_that_is_called_says_what_it_takes(name):
    called, function = getattr(package, name), getattr(import_module(CALLED[name]), name)
    assert inspect.signature(called) == inspect.signature(function)
    told = pydoc.render_doc(called, renderer=pydoc.plaintext)
    assert f"engram.{name}({next(iter(inspect.signature(function).parameters))}: " in told
    for words in (inspect.getdoc(function).partition("\n")[0], *inspect.signature(function).parameters):
        assert words in told
    assert ">>>" not in called.__doc__


def test_nothing_that_is_offered_hides_what_it_takes():
    for name in package.__all__:
        if callable(offered := getattr(package, name)):
            kinds = [one.kind for one in inspect.signature(offered).parameters.values()]
            assert kinds != [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD], name


def test_editors_know_every_name_that_is_offered():
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    block = next(one for one in tree.body if isinstance(one, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    told = {one.names[0].asname: getattr(import_module(one.module), one.names[0].name) for one in block.body}
    assert set(told) == set(package.__all__) - {"__version__"}
    for name, value in told.items():
        offered = getattr(package, name)
        assert value is (getattr(import_module(CALLED[name]), name) if name in CALLED else offered)


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
