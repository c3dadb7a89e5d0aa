"""Flickr8k and Flickr30k as they are handed out: a line a sentence, `name.jpg#0<TAB>sentence`, and lists of splits.

    Flickr8k_text/Flickr8k.token.txt            1000268201_693b08cb0e.jpg#0   A child in a pink dress is climbing ...
    Flickr8k_text/Flickr_8k.trainImages.txt     2513260012_03d33305cf.jpg
    Flickr8k_text/Flickr_8k.devImages.txt       Flickr_8k.testImages.txt
    Flicker8k_Dataset/                          (so spelled) or Images/, or any other folder that holds them

Flickr30k is the same with `results_20130124.token` and `flickr30k-images/`. The lists, where they are there, decide the
splits, `dev` being validation; pictures in none of them (91 of Flickr8k's 8,091) are left out. Without lists every
picture is for training. Hodosh, Young and Hockenmaier 2013, "Framing Image Description as a Ranking Task", section 2;
Young et al. 2014, "From image descriptions to visual denotations" (Flickr30k).
"""

import re
from collections.abc import Iterable
from pathlib import Path

from engram.data.captions.listing import Listing, source_of
from engram.data.captions.source import CaptionSource
from engram.data.sources._names import count, visible
from engram.errors import UserError
from engram.text.read import read

ACCEPTS = "Flickr8k's (Flickr8k.token.txt and a folder of pictures)"
TOKENS = re.compile(r".*\.token(\.txt)?", re.IGNORECASE)
LISTS = {
    "train": re.compile(r".*train_?images\.txt", re.IGNORECASE),
    "validation": re.compile(r".*(dev|val)_?images\.txt", re.IGNORECASE),
    "test": re.compile(r".*test_?images\.txt", re.IGNORECASE),
}
FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images", "flickr30k-images", "flickr30k_images")


def recognizes(path: Path) -> bool:
    """A token file, or a folder that holds one, itself or in a folder of its own."""
    return (path.is_file() and _is_token_file(path)) or (path.is_dir() and _token_file(path) is not None)


def flickr8k(path: str | Path) -> CaptionSource:
    """Sentences by line, splits by list.

    Raises:
        UserError: text that is no UTF-8 (which file and line), no pictures, or what `engram.data.captions.listing`
            refuses.
    """
    given = Path(path)
    file = given if given.is_file() else _token_file(given)
    if file is None:
        raise UserError(f"{path} holds no .token.txt")
    home = given if given.is_dir() else file.parent
    if home == file.parent and home.name.lower().endswith("_text"):
        home = home.parent  # Flickr8k_text/ was given: its pictures lie beside it
    split_of, notes = picture_splits(file.parent)
    listing = Listing(str(path))
    unlisted: dict[str, None] = {}
    for number, line in enumerate(read(file).split("\n"), 1):
        if not line.strip():
            continue
        name, tab, sentence = line.partition("\t")
        picture, mark, order = name.strip().rpartition("#")
        if not tab or not mark or not order.isdecimal() or not picture:
            listing.skip(f"{file.name} line {number}", "not name.jpg#0, a tab and a sentence")
        elif split_of and picture not in split_of:
            unlisted[picture] = None
        else:
            listing.add(split_of.get(picture, "train"), picture, sentence)
    return source_of(listing, "flickr8k", lambda _: FOLDERS, home=home, unlisted=unlisted, notes=notes)


def picture_splits(folder: Path) -> tuple[dict[str, str], list[str]]:
    """(picture to split, notes) by the lists beside the sentences; empty where there are none.

    Raises:
        UserError: a list that cannot be read, or lists without one of training.
    """
    names = visible(folder)[1]
    files = {split: [name for name in names if form.fullmatch(name)] for split, form in LISTS.items()}
    if not any(files.values()):
        return {}, []
    if not files["train"]:
        other = next(name for own in files.values() for name in own)
        raise UserError(f"{folder} has {other} but no list of training pictures", allowed="Flickr_8k.trainImages.txt")
    split_of: dict[str, str] = {}
    twice: dict[str, None] = {}
    for split, own in files.items():
        for picture in _pictures(folder / name for name in own):
            if split_of.get(picture, split) != split:
                twice[picture] = None
            split_of[picture] = split  # the later split judges, and so keeps it
    many = count(len(twice), "picture")
    return split_of, [f"{many} in several lists, kept only where judged by: {next(iter(twice))}"] if twice else []


def _pictures(files: Iterable[Path]) -> list[str]:
    return [name for file in files for line in read(file).split("\n") if (name := line.strip())]


def _is_token_file(path: Path) -> bool:
    """Not `Flickr8k.lemma.token.txt`, in which the words are cut back to their stems."""
    return TOKENS.fullmatch(path.name) is not None and "lemma" not in path.name.lower()


def _token_file(folder: Path) -> Path | None:
    folders, files = visible(folder)
    for place in (folder, *(folder / name for name in folders if "text" in name.lower())):
        own = files if place is folder else visible(place)[1]
        found = next((place / name for name in own if _is_token_file(Path(name))), None)
        if found is not None:
            return found
    return None
