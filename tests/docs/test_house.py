"""The two commands: what they install is locked, and a half-made environment is noticed and begun afresh."""

import importlib.util
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked(name: str) -> dict[str, str]:
    """Package to version; a line that is anything but `name==version` is an error."""
    lines = (ROOT / "locks" / name).read_text(encoding="utf-8").splitlines()
    pins = [re.fullmatch(r"([a-z0-9-]+)==([\w.]+)", line) for line in lines if line and not line.startswith("#")]
    assert all(pins), f"{name} has a line that pins nothing"
    return dict(pin.groups() for pin in pins if pin)


def test_ci_calls_make_test_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines == ["#!/usr/bin/env bash", "set -euo pipefail", 'cd "$(dirname "$0")/.."', "exec make test"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("name", ["run.txt", "dev.txt"])
def test_locks_give_what_the_package_asks_for(name: str) -> None:
    pins = locked("run.txt") | locked(name)
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    if name == "dev.txt":
        wanted += PROJECT["project"]["optional-dependencies"]["dev"]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[requirement.name]), (
            f"{requirement} is locked to {pins[requirement.name]}"
        )


def test_torch_is_spelled_so_that_a_cpu_build_at_hand_is_taken() -> None:
    assert locked("run.txt")["torch"] == "2.13.0"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/environment.py on a copy of what it reads, in a folder whose name has a space; it installs nothing."""
    root = tmp_path / "a clone"
    shutil.copytree(ROOT / "locks", root / "locks")
    shutil.copy(ROOT / "pyproject.toml", root)
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: list[str] = []

    def create(command: list[str], **_: object) -> None:
        venv = Path(command[-1])
        (venv / "bin").mkdir()
        (venv / "bin" / "python").touch()
        (venv / "pyvenv.cfg").touch()
        made.append("create")

    monkeypatch.chdir(root)
    monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.setattr(module.subprocess, "run", create)
    monkeypatch.setattr(module, "install", lambda venv, group: made.append(group))
    monkeypatch.setattr(module, "made", made, raising=False)
    return module


def make(environment: ModuleType, group: str) -> list[str]:
    """What is created and installed when the group is asked for."""
    environment.made.clear()
    environment.sys.argv = ["environment.py", ".venv", group]
    environment.main()
    return environment.made


def test_an_environment_is_made_once(environment: ModuleType) -> None:
    assert make(environment, "run") == ["create", "run"]
    assert make(environment, "run") == []
    assert make(environment, "dev") == ["dev"]
    assert make(environment, "run") == make(environment, "dev") == []


@pytest.mark.parametrize("change", ["locks/run.txt", "pyproject.toml"])
def test_an_environment_is_made_again_when_its_source_changes(environment: ModuleType, change: str) -> None:
    make(environment, "dev")
    text = Path(change).read_text(encoding="utf-8")
    Path(change).write_text(text.replace("numpy", "nump"), encoding="utf-8")
    assert make(environment, "dev") == ["create", "dev"]


def test_the_linters_settings_need_no_new_environment(environment: ModuleType) -> None:
    make(environment, "dev")
    text = Path("pyproject.toml").read_text(encoding="utf-8")
    Path("pyproject.toml").write_text(text.replace("line-length = 120", "line-length = 80"), encoding="utf-8")
    assert make(environment, "dev") == []


def test_an_interrupted_installation_is_begun_afresh(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(venv: Path, group: str) -> None:
        (venv / "half").touch()
        raise subprocess.CalledProcessError(1, ["python", "-m", "pip", "install"])

    for earlier in ([], ["run"]):
        for group in earlier:
            make(environment, group)
        with monkeypatch.context() as broken:
            broken.setattr(environment, "install", fails)
            with pytest.raises(SystemExit, match="incomplete"):
                make(environment, "dev")
        assert make(environment, "dev") == ["create", "dev"]
        assert not Path(".venv/half").exists()
        shutil.rmtree(".venv")


def test_a_removed_python_is_noticed(environment: ModuleType) -> None:
    make(environment, "run")
    Path(".venv/bin/python").unlink()
    assert make(environment, "run") == ["create", "run"]


def test_somebody_elses_environment_is_left_alone(environment: ModuleType) -> None:
    Path(".venv").mkdir()
    Path(".venv/pyvenv.cfg").write_text("theirs", encoding="utf-8")
    with pytest.raises(SystemExit, match="did not create"):
        make(environment, "run")
    assert Path(".venv/pyvenv.cfg").read_text(encoding="utf-8") == "theirs"


def test_make_says_which_python_it_needs(tmp_path: Path) -> None:
    old = tmp_path / "old python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.1"\nexit 1\n', encoding="utf-8")
    old.chmod(0o755)
    for python, said in (("no-such-python", "here is no no-such-python"), (str(old), "here is Python 3.9.1")):
        found = subprocess.run(["make", "demo", f"PYTHON={python}"], cwd=ROOT, capture_output=True, text=True)
        assert found.returncode == 2
        assert "engram needs Python 3.11" in found.stderr
        assert said in found.stderr
        assert "make demo PYTHON=" in found.stderr
