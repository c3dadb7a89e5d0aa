"""The 1,797 handwritten digits that scikit-learn ships: 8 x 8 grey, no download.

The file's 0..16 (ink counted over 4 x 4 pixels) is scaled to 0..255.

The test split is the last fifth of each class in the order of the file, always the same 359. A random one would be
too easy: writers follow each other in the file, so that the nearest image to a digit lies within 50 places of it in
37 % of cases (5 % if the order were random). One nearest neighbour scores 95.5 % on this split and 98.6 % on every
fifth image. (E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
1998; scikit-learn ships its test part.)
"""

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engram.data.examples import Examples, Source
from engram.data.sources._layouts import Layout
from engram.data.sources._stores import Arrays, Rows
from engram.registry import register

TEST = 0.2
"""Share of each class that is the test split, rounded to whole images."""


@register("source", named=True, paper="Alpaydin and Kaynak, UCI Machine Learning Repository, 1998", year=1998)
def digits() -> Source:
    """Handwritten digits, 8 x 8 grey: 1,438 to train, 359 to test; in the installation, no download.

    >>> len(digits().train), digits().train.read(0).shape
    (1438, (1, 8, 8))
    """
    table = _table()
    images = np.rint(table[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = table[:, 64].astype(np.int64)
    is_test = np.zeros(len(labels), bool)
    for number in range(10):
        own = np.flatnonzero(labels == number)
        is_test[own[len(own) - round(TEST * len(own)) :]] = True
    splits: dict[str, Examples] = {}
    for split, rows in (("train", np.flatnonzero(~is_test)), ("test", np.flatnonzero(is_test))):
        where = Rows(("digits",), (len(rows),), rows)
        splits[split] = Arrays(images[rows], Layout("NHW", "same"), labels[rows], where)
    return Source("digits", "digits", tuple("0123456789"), splits["train"], test=splits["test"])


def _table() -> NDArray[np.float64]:
    """(1797, 65): 64 pixels and the digit."""
    package = importlib.util.find_spec("sklearn")
    for place in (package.submodule_search_locations or ()) if package else ():
        file = Path(place, "datasets", "data", "digits.csv.gz")
        if file.is_file():  # read directly: importing scikit-learn takes longer than the whole of the rest
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return np.column_stack([images, labels])
