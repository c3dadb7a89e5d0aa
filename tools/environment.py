"""Make the project's own environment, or leave it alone where it is already what the lock files say.

    python tools/environment.py .venv run     what `make demo` needs
    python tools/environment.py .venv dev     and the tools of `make test`

The stamp is written last and removed first, so an installation that was interrupted is noticed and begun afresh.
Only the standard library: it runs before anything is installed.
"""

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"run": ["run.txt"], "dev": ["run.txt", "dev.txt"]}
STAMP = "engram-stamp.json"
OURS = "made-by-make"


def fingerprint(group: str) -> str:
    """What the environment depends on: the locks, what pyproject.toml says of the package, this Python, this place.

    The linter's and the tests' settings are left out: changing them needs no new environment. The place is in
    because neither a virtual environment nor an editable installation can be moved.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    parts = [
        json.dumps({key: project.get(key) for key in ("build-system", "project")}, sort_keys=True),
        *((ROOT / "locks" / name).read_text(encoding="utf-8") for name in LOCKS[group]),
        platform.python_version(),
        platform.machine(),
        str(ROOT),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def installed(venv: Path) -> dict[str, str]:
    """Fingerprint of each group that was installed to the end."""
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    usable = isinstance(stamp, dict) and (venv / "bin" / "python").exists()  # a removed Python leaves a dead link
    return stamp if usable else {}


def create(venv: Path) -> None:
    """An empty environment in place of what an interrupted or older one left."""
    if (venv / "pyvenv.cfg").exists():
        if not (venv / OURS).exists():
            raise SystemExit(
                f"{venv} is an environment that `make` did not create, so it is left alone\n"
                f"  next: remove it, or use another folder: make VENV=.venv-engram ..."
            )
        (venv / "pyvenv.cfg").unlink()  # first: what is left if this is interrupted is then nobody's environment
    if venv.exists():
        shutil.rmtree(venv)
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise SystemExit(
            f"{sys.executable} cannot make virtual environments: its module venv or ensurepip is missing\n"
            "  next: on Debian or Ubuntu: sudo apt install python3-venv\n"
            "  or name another Python: make PYTHON=/path/to/python3.12 ..."
        )
    print(f"making {venv} with Python {platform.python_version()} (once; a few minutes)", flush=True)
    venv.mkdir(parents=True)
    (venv / OURS).touch()
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)


def install(venv: Path, group: str) -> None:
    """The locked versions, then the project itself as an editable package built with locked tools."""
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    if not sys.stdout.isatty():
        pip.append("--quiet")
    locks = [word for name in LOCKS[group] for word in ("--requirement", str(ROOT / "locks" / name))]
    subprocess.run([*pip, "install", *locks], check=True)
    subprocess.run([*pip, "install", "--no-build-isolation", "--no-deps", "--editable", str(ROOT)], check=True)
    subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    folder, group = sys.argv[1:]
    venv = Path(folder)
    stamp = installed(venv)
    wanted = fingerprint(group)
    if stamp.get(group) == wanted:
        return
    try:
        if stamp.get("run") == fingerprint("run"):
            (venv / STAMP).unlink()
        else:
            stamp = {}
            create(venv)
        install(venv, group)
    except subprocess.CalledProcessError as error:
        raise SystemExit(
            f"{venv} is incomplete: {' '.join(error.cmd[1:4])} ended with {error.returncode} (its message is above)\n"
            "  next: mend the cause and run make again; it begins afresh"
        ) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\n{venv} is incomplete; the next make begins afresh") from None
    stamp |= {name: fingerprint(name) for name, locks in LOCKS.items() if set(locks) <= set(LOCKS[group])}
    part = venv / f"{STAMP}.part"
    part.write_text(json.dumps(stamp), encoding="utf-8")
    os.replace(part, venv / STAMP)


if __name__ == "__main__":
    main()
