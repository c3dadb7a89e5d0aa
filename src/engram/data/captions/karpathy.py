"""The splits that papers report on: dataset_coco.json, dataset_flickr8k.json, dataset_flickr30k.json.

    {"images": [{"filename": "1.jpg", "filepath": "val2014", "split": "test", "sentences": [{"raw": "A dog."}]}]}

One file has all pictures with their sentences and the split of each: of COCO's, 5,000 to validate and 5,000 to test,
and 30,504 further ones of its validation pictures (`restval`) that are trained on too, as papers do. Karpathy and
Fei-Fei 2015, arXiv 1412.2306, section 4; Xu et al. 2015, arXiv 1502.03044, section 5.1, report on these.
"""

from pathlib import Path

from engram.data.captions.coco import entry, load_json
from engram.data.captions.flickr8k import FOLDERS
from engram.data.captions.listing import Listing, source_of
from engram.data.captions.source import CaptionSource
from engram.data.sources._names import listed, visible
from engram.errors import UserError

ACCEPTS = "dataset_*.json of Karpathy's splits"
SPLITS = {"train": "train", "restval": "train", "val": "validation", "test": "test"}


def recognizes(path: Path) -> bool:
    """A file `dataset_*.json`, or a folder that holds one."""
    return bool(_files(path))


def karpathy(path: str | Path) -> CaptionSource:
    """Pictures, sentences and splits of one file.

    Raises:
        UserError: no JSON or JSON of another form (with what is wrong where), no pictures, or what
            `engram.data.captions.listing` refuses.
    """
    files = _files(Path(path))
    if len(files) > 1:
        raise UserError(f"{path} holds several: {listed([one.name for one in files])}", then=f"name one: {files[0]}")
    if not files:
        raise UserError(f"{path} holds no dataset_*.json", allowed=ACCEPTS)
    [file] = files
    listing = Listing(str(path))
    for place, image in enumerate(entry(file, load_json(file), "images", "", list)):
        where = f"images[{place}]"
        name = entry(file, image, "filename", where, str)
        if image.get("filepath"):
            name = f"{entry(file, image, 'filepath', where, str)}/{name}"
        split = entry(file, image, "split", where, str)
        if split not in SPLITS:
            raise UserError(f"{file}: {where}.split {split!r} is not known", allowed=", ".join(SPLITS))
        for number, sentence in enumerate(entry(file, image, "sentences", where, list)):
            listing.add(SPLITS[split], name, entry(file, sentence, "raw", f"{where}.sentences[{number}]", str))
    return source_of(listing, "karpathy", lambda _: FOLDERS, home=file.parent)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if _is_named(path.name) else []
    return [path / name for name in visible(path)[1] if _is_named(name)] if path.is_dir() else []


def _is_named(name: str) -> bool:
    return name.startswith("dataset_") and name.endswith(".json")
