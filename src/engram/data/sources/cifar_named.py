"""CIFAR-10 and CIFAR-100 by name: the archive of pickled batches, downloaded and unpacked once.

The SHA-256 digests are those in Keras's loaders (`keras/src/datasets/cifar10.py`, `cifar100.py`); the home page gives
the MD5 of the same archives (c58f30108f718f92721af3b95e74349a, eb9058c3a382ffc7106e4002c42a8d85). The second address
is where the university now redirects the first.
"""

from engram.data.download import Progress, Remote, cache_folder, fetch, unpack
from engram.data.examples import Source
from engram.data.sources.cifar import cifar, recognizes
from engram.registry import register

HOMES = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")

CIFAR10 = Remote(
    "cifar-10-python.tar.gz", HOMES, "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce", 170_498_071
)
CIFAR100 = Remote(
    "cifar-100-python.tar.gz", HOMES, "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7", 169_001_437
)


@register(
    "source", named=True, paper="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009", year=2009
)
def cifar10(progress: Progress | None = None) -> Source:
    """Photographs of ten classes, 32 x 32 RGB: 50,000 to train, 10,000 to test; 170 MB to download."""
    return _get("cifar10", CIFAR10, "cifar-10-batches-py", progress)


@register(
    "source", named=True, paper="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009", year=2009
)
def cifar100(progress: Progress | None = None) -> Source:
    """Photographs of a hundred classes, 32 x 32 RGB: 50,000 to train, 10,000 to test; 169 MB to download."""
    return _get("cifar100", CIFAR100, "cifar-100-python", progress)


def _get(name: str, remote: Remote, inside: str, progress: Progress | None) -> Source:
    home = cache_folder() / name
    places = (home / inside, home / "unpacked" / inside)  # where a person would put it, where it is put here
    batches = next((place for place in places if recognizes(place)), None)
    if batches is None:
        batches = unpack(fetch(remote, home, progress), home / "unpacked") / inside
    found = cifar(batches)
    return Source(name, name, found.classes, found.train, test=found.test, notes=found.notes)
