"""Which sentence belongs to which picture, by split, as the files of a layout say; and what of it can be used.

The rules, the same for every layout. What is left out is counted, and the first few are named in the source's notes:

- a sentence of a picture that is not there is left out;
- a picture that is there and has no sentence is left out;
- a sentence without a word in it is left out;
- a line that does not have the layout's form is left out, unless more than half of them do not: then it is an error;
- a picture in several splits stays in the one to judge by, test before validation, and is taken from training.

Where nothing is left of the training split, that is an error that names the first picture.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from engram.data.captions.picture_folder import picture_folder, present, printable
from engram.data.captions.source import Captioned, CaptionSource
from engram.data.sources._names import count, listed
from engram.data.sources._stores import Files, Names
from engram.errors import UserError

SPLITS = ("train", "validation", "test")
NAMED = 3  # of what is left out, so many are named

Pictures = dict[str, list[str]]


class Listing:
    """Sentences by split and picture, filled line by line.

    >>> listing = Listing("here")
    >>> listing.add("train", "1.jpg", "A dog.\\n"); listing.add("train", "1.jpg", "?!")
    >>> listing.pictures["train"], listing.notes()
    ({'1.jpg': ['A dog.']}, ['left out 1 sentence without a word: 1.jpg'])
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.pictures: dict[str, Pictures] = {split: {} for split in SPLITS}
        self.lines = 0
        self.wordless: list[str] = []
        self.malformed: list[str] = []

    def add(self, split: str, picture: str, sentence: str) -> None:
        """One sentence; a blank or a line break at its ends is nobody's intention."""
        self.lines += 1
        sentence = " ".join(sentence.encode("utf-8", "replace").decode("utf-8").split())
        if any(map(str.isalnum, sentence)):
            self.pictures[split].setdefault(picture, []).append(sentence)
        else:
            self.wordless.append(picture)

    def skip(self, place: str, why: str) -> None:
        """A line that does not have the form."""
        self.lines += 1
        self.malformed.append(f"{place} ({why})")

    def notes(self) -> list[str]:
        """What was left out so far.

        Raises:
            UserError: more than half of the lines do not have the form.
        """
        if 2 * len(self.malformed) > self.lines:
            raise UserError(
                f"{self.path}: {len(self.malformed):,} of {count(self.lines, 'line')} are no captions; "
                f"first {self.malformed[0]}"
            )
        return [
            *left_out(self.malformed, "line", "that is no caption", "that are no captions"),
            *left_out(self.wordless, "sentence", "without a word", "without a word"),
        ]


def source_of(
    listing: Listing,
    kind: str,
    folders: Callable[[str], Sequence[str]] | None = None,
    *,
    home: Path,
    unlisted: Collection[str] = (),
    notes: Sequence[str] = (),
) -> CaptionSource:
    """What the listing says, of the pictures that are there.

    Args:
        folders: of a split, the folders in which its pictures are looked for first.
        home: the folder in or below which the pictures lie.
        unlisted: pictures with sentences that no split has a use for.

    Raises:
        UserError: no sentences, no pictures, or none of either that belong together.
    """
    unused = left_out(list(unlisted), "picture", "in no split's list", "in no split's list")
    found = [*notes, *unused, *listing.notes()]
    pictures = _in_one_split(listing.pictures, found)
    if not any(pictures.values()):
        raise UserError(f"{listing.path} holds no captions", allowed="at least one picture with one sentence")
    roots: dict[str, Path] = {}
    splits: dict[str, Captioned] = {}
    lost: list[str] = []
    lost_sentences = 0
    unsaid: dict[str, None] = {}
    for split, own in pictures.items():
        if not own:
            continue
        first = folders(split) if folders else ()
        try:
            root = picture_folder(home, list(own), first=first)
        except UserError:
            if split == "train":
                raise
            found.append(f"left out {split}: none of its {count(len(own), 'picture')} is there")
            continue
        there, others = present(root, own)
        absent = [name for name in own if name not in there]
        lost += absent
        lost_sentences += sum(len(own[name]) for name in absent)
        unsaid |= dict.fromkeys(str(root / name) for name in others)
        roots[split] = root
        kept = {name: sentences for name, sentences in own.items() if name in there}
        splits[split] = Captioned(
            Files(root, Names(kept), np.zeros(len(kept), np.int64)), tuple(map(tuple, kept.values()))
        )
    if "train" not in splits:
        raise UserError(f"{listing.path} has no captions to train on", allowed="a split named train, or no splits")
    for split, root in roots.items():  # a folder that splits share holds the pictures of all of them
        for name in (*pictures[split], *unlisted):
            unsaid.pop(str(root / name), None)
    if lost:
        found.append(
            f"left out {count(lost_sentences, 'sentence')} of {count(len(lost), 'picture')} not there: "
            f"{listed([printable(name) for name in lost], NAMED)}"
        )
    found += left_out([Path(name).name for name in unsaid], "picture", "without a caption", "without a caption")
    return CaptionSource(listing.path, kind, **splits, notes=tuple(found))


def left_out(names: Sequence[str], thing: str, one: str, many: str) -> list[str]:
    """`left out 2 pictures without a caption: a.jpg, b.jpg`, or nothing.

    >>> left_out(["a.jpg"], "picture", "without a caption", "without a caption")
    ['left out 1 picture without a caption: a.jpg']
    """
    if not names:
        return []
    shown = listed([printable(name) for name in names], NAMED)
    return [f"left out {count(len(names), thing)} {one if len(names) == 1 else many}: {shown}"]


def _in_one_split(pictures: Mapping[str, Pictures], notes: list[str]) -> dict[str, Pictures]:
    """Each picture in one split only, with all of its sentences that this split has."""
    kept: dict[str, Pictures] = {}
    taken: set[str] = set()
    twice: list[str] = []
    for split in reversed(SPLITS):
        own = pictures[split]
        twice += [name for name in own if name in taken]
        kept[split] = {name: sentences for name, sentences in own.items() if name not in taken}
        taken |= own.keys()
    if twice:
        notes.append(
            f"{count(len(twice), 'picture')} in several splits, kept only where judged by (test, then validation): "
            f"{listed([printable(name) for name in twice], NAMED)}"
        )
    return {split: kept[split] for split in SPLITS}
