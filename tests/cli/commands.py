"""Running the command as a person does: in a folder, what it printed, and the code it ended with.

`engram` runs within the tests' own process, which saves the start of Python and PyTorch each time. `start` makes a
process of its own, for what only that can show.
"""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import torch

from engram.cli import app

SHOWN = {"NO_COLOR": "1", "COLUMNS": "120"}
ENVIRONMENT = {**os.environ, **SHOWN, "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"}


def engram(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`engram WORDS` in the folder `cwd`."""
    out, err, threads = io.StringIO(), io.StringIO(), torch.get_num_threads()
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, SHOWN),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            app.main([str(word) for word in words])
        except SystemExit as ended:
            code = ended.code
    torch.set_num_threads(threads)
    assert isinstance(code, int), "the command ends with an exit code"
    return subprocess.CompletedProcess(list(map(str, words)), code, out.getvalue(), err.getvalue())


def start(*words: object, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "engram", *map(str, words)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def refused(*words: object, cwd: Path) -> str:
    """The message of a command that must be refused: exit code 2, at most five lines, no traceback."""
    done = engram(*words, cwd=cwd)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    message = done.stderr.strip()
    assert message.startswith("error: "), message
    assert "Traceback" not in message
    assert len(message.splitlines()) <= 5, message
    return message


SHORT = ("--model", "mlp", "--epochs", "2", "--device.threads", "1", "--device.precision", "float32")
"""A run of a few seconds on the embedded digits."""
