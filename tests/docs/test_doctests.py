"""Every example in every docstring of the package gives what it says."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import engram

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(engram.__path__, "engram.")
    if not module.name.endswith(".__main__")  # importing it runs the command line
)


@pytest.mark.parametrize("name", ["engram", *MODULES])
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(example, out=told.append)
    assert not runner.failures, "".join(told)


def test_a_wrong_example_is_noticed() -> None:
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(example, out=lambda text: None)
    assert runner.failures == 1
