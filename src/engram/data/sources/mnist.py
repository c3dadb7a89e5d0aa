"""MNIST and Fashion-MNIST by name: four gzipped IDX files, downloaded once.

The SHA-256 digests were computed from the published files and agree in TensorFlow Datasets' checksum lists and in many
independent projects; Fashion-MNIST's authors publish the MD5 of the same four files. MNIST's first home
(yann.lecun.com) no longer serves them; the addresses are those PyTorch and TensorFlow keep in its stead.
"""

from engram.data.download import Progress, Remote, cache_folder, fetch
from engram.data.examples import Source
from engram.data.sources.idx import FASHION, idx
from engram.registry import register

MNIST_HOMES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST = (
    ("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    ("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)

FASHION_HOMES = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
FASHION_MNIST = (
    ("train-images-idx3-ubyte.gz", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    ("train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    ("t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    ("t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
)


@register(
    "source", named=True, paper="LeCun, Bottou, Bengio, Haffner, Proc. IEEE 86(11), 1998, section III-A", year=1998
)
def mnist(progress: Progress | None = None) -> Source:
    """Handwritten digits, 28 x 28 grey: 60,000 to train, 10,000 to test; 12 MB to download."""
    return _get("mnist", MNIST, MNIST_HOMES, tuple("0123456789"), progress)


@register("source", named=True, paper="Xiao, Rasul, Vollgraf, arXiv:1708.07747, 2017", year=2017)
def fashion_mnist(progress: Progress | None = None) -> Source:
    """Pictures of clothing, 28 x 28 grey: 60,000 to train, 10,000 to test; 31 MB to download."""
    return _get("fashion_mnist", FASHION_MNIST, FASHION_HOMES, FASHION, progress)


def _get(
    name: str,
    files: tuple[tuple[str, int, str], ...],
    homes: tuple[str, ...],
    classes: tuple[str, ...],
    progress: Progress | None,
) -> Source:
    folder = cache_folder() / name
    for file, size, digest in files:
        fetch(Remote(file, homes, digest, size), folder, progress)
    found = idx(folder, classes=classes)
    return Source(name, name, found.classes, found.train, test=found.test, notes=found.notes)
