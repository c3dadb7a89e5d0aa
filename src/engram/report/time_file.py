"""`probes/time.npz`: how far back a recurrent network's gradient reaches, at moments of training.

`engram.recurrence.look` writes it; here it is read without trusting it.
"""

from pathlib import Path

from engram.report.checked_arrays import Arrays, checked, load

LARGEST = 4_096

FORM = {
    "step": "whole M",
    "state": "text S",
    "last": "number MSLT",  # norms of the gradient of the loss at the last step, the oldest state first
    "mean": "number MSLT",  # of the mean loss over all steps
    "gate": "text G",
    "largest": "number MLG",  # largest singular values of the recurrent matrices
    "steps": "number MLN",  # those of a step's Jacobian at states that occurred
}


def read(path: Path) -> Arrays:
    """The arrays of `FORM`.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, or holds something else.
    """
    return checked(path, load(path), FORM, largest=LARGEST)
