"""Parquet in the Hugging Face image layout: an image column of {bytes, path} and a column of labels.

One file or many shards, beside each other, in `data/`, or one folder a split; the split is a word in the file's name
(`train-00000-of-00002.parquet`) or its folder's. Which column is the image and which the label, and what the classes
are called, the schema's metadata says; without it the columns are found by name and the classes by value.

The encoded bytes are used, the paths beside them never are. Up to `IN_MEMORY` they stay in memory; more is copied
once into a file in the cache, end to end, and read from there image by image, so that memory does not grow with the
set. (Parquet compresses pages of many rows, and a single row of one cannot be read.)
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engram.data.download import Progress
from engram.data.examples import Source
from engram.data.sources._copies import keep
from engram.data.sources._labels import class_indices
from engram.data.sources._names import SPLITS, files_in, listed, split_in, visible
from engram.data.sources._stores import Encoded, Rows
from engram.errors import UserError
from engram.registry import register

if TYPE_CHECKING:
    import pyarrow.parquet

IN_MEMORY = 2**26
"""Encoded bytes of a split that are kept in memory rather than copied to the cache: 64 MB, less than torch takes
itself, and enough for CIFAR-10."""

ROWS = 512
"""Rows read at a time."""

IMAGE_NAMES = ("image", "img", "images", "picture", "photo", "png", "jpg", "jpeg")
LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "category", "y")


def recognizes(path: Path) -> bool:
    """A Parquet file, or a folder that holds some where they are looked for."""
    return path.suffix.lower() == ".parquet" if path.is_file() else bool(_found(path))


@register(
    "source",
    recognizes=recognizes,
    order=30,
    accepts="Parquet with an image and a label column",
)
def parquet(path: str | Path, progress: Progress | None = None) -> Source:
    """Encoded images and labels in the columns of one or many Parquet files.

    Raises:
        UserError: no Parquet file, a shard missing, no image or label column, an image or a label that is missing or
            out of range (the row is named), too little room in the cache for the copy.
    """
    root = Path(path)
    shards, notes = _by_split([root] if root.is_file() else _found(root), root)
    tables = {split: _Table(files, root if root.is_dir() else root.parent) for split, files in shards.items()}
    columns = tables["train"].columns()
    raw = {split: table.labels(columns) for split, table in tables.items()}
    for split in ("validation", "test"):
        if split in raw and raw[split].dtype.kind == "i" and (raw[split] == -1).all():
            notes.append(f"left out {split}: its labels are withheld (-1)")
            del raw[split]
    names = {split: tables[split].rows() for split in raw}
    classes, labels = class_indices(raw, columns.classes, row=lambda split, index: names[split][index])
    examples = {}
    for split in raw:
        data, ends = tables[split].images(columns, progress)
        examples[split] = Encoded(data, ends, labels[split], names[split])
    return Source(str(path), "parquet", classes, **examples, notes=tuple(notes))


@dataclass(frozen=True)
class _Columns:
    """What to read: the column with the encoded bytes (dotted where nested), the label column, class names if known."""

    image: str
    label: str
    classes: tuple[str, ...] | None


class _Table:
    """The shards of one split."""

    def __init__(self, files: Sequence[Path], root: Path) -> None:
        self.files = list(files)
        self.names = tuple(str(file.relative_to(root)) for file in files)
        self._about = []
        for file in files:
            with _opened(file) as shard:
                self._about.append(shard.metadata)

    def rows(self) -> Rows:
        return Rows(self.names, tuple(about.num_rows for about in self._about))

    def columns(self) -> _Columns:
        schema = self._about[0].schema.to_arrow_schema()
        features = _features(schema)
        images = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
        images = images or [name for name in IMAGE_NAMES if name in schema.names and _is_image(schema.field(name).type)]
        images = images or [field.name for field in schema if _is_struct_image(field.type)]
        shown = ", ".join(f"{field.name} ({_short(field.type)})" for field in schema)
        if len(images) != 1:
            raise UserError(
                f"{self.files[0]} has {'no' if not images else 'more than one'} image column; its columns: {shown}",
                allowed="a column `image` or `img` of encoded images, {bytes, path} or binary",
            )
        labels = [name for name in LABEL_NAMES if name in schema.names]
        labels = labels or [name for name, one in features.items() if one.get("_type") == "ClassLabel"]
        if not labels:
            raise UserError(
                f"{self.files[0]} has no label column; its columns: {shown}",
                allowed="a column `label` of numbers or text",
            )
        [image], label = images, labels[0]
        nested = _is_struct_image(schema.field(image).type)
        names = features.get(label, {}).get("names")
        return _Columns(f"{image}.bytes" if nested else image, label, tuple(map(str, names)) if names else None)

    def labels(self, columns: _Columns) -> NDArray[np.generic]:
        """The label column as numbers or text, (N,); a missing label is refused by row."""
        pieces: list[NDArray[np.generic]] = []
        rows = self.rows()
        done = 0
        for batch in self._batches(columns.label):
            column = batch.column(0)
            if column.null_count:
                raise UserError(f"{rows[done + _first_null(column)]} has no label ({columns.label} is null)")
            values = column.to_numpy(zero_copy_only=False)
            if values.dtype.kind == "O":
                values = _as_text(values, columns.label, self.files[0])
            pieces.append(values)
            done += len(batch)
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def images(self, columns: _Columns, progress: Progress | None) -> tuple[bytes | Path, NDArray[np.int64]]:
        """The encoded images end to end, in memory or in a file, and where each ends."""
        total = sum(self._column_bytes(columns.image))
        if total <= IN_MEMORY:
            pieces: list[bytes] = []
            lengths = self._copy(columns, lambda piece: pieces.append(bytes(piece)), None, total)
            return b"".join(pieces), np.cumsum(lengths, dtype=np.int64)

        def make(inside: Path) -> None:
            with open(inside / "images", "wb") as file:
                lengths = self._copy(columns, file.write, progress, total)
            np.save(inside / "ends.npy", np.cumsum(lengths, dtype=np.int64))

        kept = keep(self.files, f"images of {columns.image}", total, make)
        return kept / "images", np.load(kept / "ends.npy", allow_pickle=False)

    def _copy(
        self, columns: _Columns, write: Callable[[memoryview], Any], progress: Progress | None, total: int
    ) -> NDArray[np.int64]:
        """Hand the bytes of every image to `write`, a batch at a time; the length of each, int64 (N,)."""
        lengths: list[NDArray[np.int64]] = []
        rows = self.rows()
        done = written = 0
        for batch in self._batches(columns.image):
            column = batch.column(0)
            while _is_struct(column.type):
                column = column.field(0)  # null wherever the struct is
            if column.null_count:
                raise _no_image(rows[done + _first_null(column)])
            ends = _ends(column)
            if len(ends) > 1:
                if (data := column.buffers()[2]) is not None:
                    write(memoryview(data)[int(ends[0]) : int(ends[-1])])
                written += int(ends[-1] - ends[0])
            lengths.append(np.diff(ends))
            done += len(batch)
            if progress is not None:
                progress(min(written, total), total)
        return np.concatenate(lengths) if lengths else np.zeros(0, np.int64)

    def _batches(self, column: str) -> "Iterator[pyarrow.RecordBatch]":
        for file in self.files:
            with _opened(file) as shard:
                if column.partition(".")[0] not in shard.schema_arrow.names:
                    raise UserError(f"{file} lacks the column {column.partition('.')[0]!r} that {self.files[0]} has")
                yield from shard.iter_batches(ROWS, columns=[column], use_threads=False)

    def _column_bytes(self, column: str) -> Iterator[int]:
        for about in self._about:
            for group in range(about.num_row_groups):
                row_group = about.row_group(group)
                for number in range(row_group.num_columns):
                    chunk = row_group.column(number)
                    if chunk.path_in_schema == column:
                        yield chunk.total_uncompressed_size


def _found(root: Path) -> list[Path]:
    """Parquet files of a folder: in it, else in data/, else in folders named after splits."""
    folders, _ = visible(root)
    by_split = [file for name in folders if name.lower() in SPLITS for file in files_in(root / name, ".parquet")]
    return files_in(root, ".parquet") or files_in(root / "data", ".parquet") or by_split


def _by_split(files: list[Path], root: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Files by split, every shard of which must be there. A single unnamed file, or only unnamed ones, are train."""
    named: dict[str, list[Path]] = {}
    unnamed: list[Path] = []
    for file in files:
        split = split_in(file.stem) or (SPLITS.get(file.parent.name.lower()) if file.parent != root else None)
        (named.setdefault(split, []) if split else unnamed).append(file)
    if len(files) == 1 or not named:
        return {"train": files}, []
    if "train" not in named:
        raise UserError(f"{root} has no training split: {listed([file.name for file in files])}")
    for split, shards in named.items():
        _check_shards(split, shards)
    order = [split for split in ("train", "validation", "test") if split in named]
    notes = [f"left out, as they name no split: {listed([file.name for file in unnamed])}"] if unnamed else []
    return {split: named[split] for split in order}, notes


def _check_shards(split: str, files: list[Path]) -> None:
    counted = [match for file in files if (match := re.search(r"-(\d+)-of-(\d+)", file.stem))]
    for total in {int(match[2]) for match in counted}:
        have = {int(match[1]) for match in counted if int(match[2]) == total}
        lost = [f"{number:05d}" for number in range(total) if number not in have]
        if lost:
            raise UserError(f"{split} has {len(have)} of {total} shards; missing: {listed(lost)}")


def _features(schema: "pyarrow.Schema") -> Mapping[str, Any]:
    """Hugging Face's description of the columns, empty where there is none or it is no such thing."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return {k: v for k, v in features.items() if isinstance(v, dict)} if isinstance(features, dict) else {}


def _is_struct(kind: Any) -> bool:
    from pyarrow import types

    return types.is_struct(kind)


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return types.is_binary(kind) or types.is_large_binary(kind)


def _is_struct_image(kind: Any) -> bool:
    return _is_struct(kind) and kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)


def _is_image(kind: Any) -> bool:
    return _is_struct_image(kind) or _is_binary(kind)


def _ends(column: Any) -> NDArray[np.int64]:
    """Offsets of a binary column, int64 (N + 1,), whichever width Arrow stores them in."""
    from pyarrow import types

    width = np.int64 if types.is_large_binary(column.type) else np.int32
    offsets = np.frombuffer(column.buffers()[1], width)
    return offsets[column.offset : column.offset + len(column) + 1].astype(np.int64)


def _first_null(column: Any) -> int:
    return int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])


def _as_text(values: NDArray[Any], column: str, file: Path) -> NDArray[np.str_]:
    if not all(isinstance(one, str) for one in values):
        raise UserError(
            f"{file}: column {column!r} holds {type(values[0]).__name__} values", allowed="one number or text a row"
        )
    return values.astype(str)


def _no_image(row: str) -> UserError:
    return UserError(
        f"{row} has no image: its bytes are null",
        then="store the encoded images in the file; paths in it are not followed",
    )


@contextmanager
def _opened(file: Path) -> "Iterator[pyarrow.parquet.ParquetFile]":
    """The file while it is read: sets come in more shards than a process may have open."""
    from pyarrow import parquet as reader  # 0.2 s that only those who read Parquet pay
    from pyarrow.lib import ArrowException

    try:
        with reader.ParquetFile(file, memory_map=False, pre_buffer=False) as shard:
            yield shard
    except (ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read as Parquet: {str(error).partition(chr(10))[0]}") from None


def _short(kind: Any) -> str:
    return str(kind).partition("<")[0]
