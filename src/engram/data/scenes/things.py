"""What can be in a scene: ten handwritten digits, three shapes in four colours, and photographs where given."""

from dataclasses import dataclass

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHAPES = ("square", "circle", "triangle")
COLORS = {"red": (214, 48, 49), "green": (39, 174, 96), "blue": (60, 105, 245), "yellow": (245, 205, 60)}
"""8-bit red, green and blue; each scene varies them a little."""

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels from the upper left corner; x1 and y1 are the first that lie outside."""


@dataclass(frozen=True)
class Thing:
    """One thing in a scene.

    Args:
        words: what it is called, without the article: `("seven",)`, `("red", "square")`.
        box: the smallest that holds its pixels.
        row, column: its place on the grid.
        digit: of a handwritten digit, which one of its split of the digits it is.
        picture: of a photograph, which one of its split of the pictures it is.
    """

    words: tuple[str, ...]
    box: Box
    row: int
    column: int
    digit: int | None = None
    picture: int | None = None

    @property
    def article(self) -> str:
        """`an` before a vowel, but a one."""
        return "an" if self.words[0][0] in "aeiou" and self.words[0] != "one" else "a"
