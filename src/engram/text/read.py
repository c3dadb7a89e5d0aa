"""A text file, whole, as characters: UTF-8 or a message that says at which byte it is not."""

from pathlib import Path

from engram.errors import UserError

BYTE_ORDER_MARK = "\ufeff"


def read(path: str | Path) -> str:
    """The characters of a file, line ends as they are; a byte order mark at the beginning is left out.

    Raises:
        UserError: no such file, nothing in it, or bytes that are no UTF-8.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"text {path} cannot be read: {error.strerror or error}") from None
    return from_bytes(content, str(path))


def from_bytes(content: bytes, name: str = "text") -> str:
    """The characters that UTF-8 bytes stand for.

    Args:
        name: what a message calls the text.

    Raises:
        UserError: no characters, or bytes that are no UTF-8; the offset of the first of them counts from 0.

    >>> from_bytes(b"caf\\xc3\\xa9")
    'café'
    >>> from_bytes(b"one\\ncaf\\xe9 two", "menu.txt")
    Traceback (most recent call last):
    ...
    engram.errors.UserError: menu.txt is not UTF-8: byte 0xe9 at offset 7 (line 2)
      allowed: text in UTF-8
      next: iconv -f latin1 -t utf-8 menu.txt > menu.txt.utf8, if it was written in Latin-1
    """
    try:
        text = content.decode("utf-8").removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{name} is not UTF-8: byte {content[error.start]:#04x} at offset {error.start} (line {line})",
            allowed="text in UTF-8",
            then=f"iconv -f latin1 -t utf-8 {name} > {name}.utf8, if it was written in Latin-1",
        ) from None
    if not text:
        raise UserError(f"{name} is empty", allowed="text in UTF-8")
    return text
