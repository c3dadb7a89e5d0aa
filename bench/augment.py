"""Images per second of each augmentation, a batch at a time, beside the obvious loop over Pillow pictures.

    python bench/augment.py                      # both sizes, every word, one thread
    python bench/augment.py --side 32 --words crop:4,flip --rounds 9

Both sides start from pictures in memory and end with one normalised float32 batch. The loop draws its parameters from
`random`, changes each picture with Pillow, turns it into a NumPy array, normalises it and stacks: what a dataset with
per-image transforms does, without a DataLoader's own cost. Rounds are interleaved, one thread, CPU time of the
process; the median round is shown, with the ratio of the medians. bfloat16 is ours in the other dtype.
"""

import argparse
import math
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from engram import augment
from engram.training import allocator

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
FILL = tuple(round(255 * value) for value in MEAN)
WORDS = (
    "none",
    "crop:4",
    "flip",
    "crop:4,flip",
    "resized_crop:0.35",
    "rotation:15",
    "brightness:0.2",
    "contrast:0.2",
    "saturation:0.2",
    "color:0.2",
    "pca_noise:0.1",
    "cutout:8",
    "mixup:0.2",
)
SIDES = {32: (32, 128), 224: (256, 32)}
"""What the network sees: the side stored, and the batch."""


def crop(picture: Image.Image, side: int, margin: int = 4) -> Image.Image:
    """A random window of the picture with a margin around it."""
    picture = ImageOps.expand(picture, margin, FILL)
    top, left = random.randint(0, picture.height - side), random.randint(0, picture.width - side)
    return picture.crop((left, top, left + side, top + side))


def resized_crop(picture: Image.Image, side: int, smallest: float = 0.35) -> Image.Image:
    """The window of Szegedy et al. 2015, drawn until it fits."""
    width, height = picture.size
    for _ in range(10):
        area = random.uniform(smallest, 1) * width * height
        aspect = math.exp(random.uniform(-math.log(4 / 3), math.log(4 / 3)))
        wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if wide <= width and tall <= height:
            break
    else:
        wide, tall = width, height
    left, top = random.randint(0, width - wide), random.randint(0, height - tall)
    return picture.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + wide, top + tall))


def enhance(*kinds: Callable[[Image.Image], ImageEnhance._Enhance]) -> Callable[[Image.Image, int], Image.Image]:
    """Each kind by a factor of its own."""

    def change(picture: Image.Image, side: int) -> Image.Image:
        for kind in kinds:
            picture = kind(picture).enhance(random.uniform(0.8, 1.2))
        return picture

    return change


def blank(picture: Image.Image, side: int) -> Image.Image:
    """A square of 8 pixels in the mean colour."""
    x, y = random.randrange(picture.width), random.randrange(picture.height)
    picture = picture.copy()
    ImageDraw.Draw(picture).rectangle((x - 4, y - 4, x + 3, y + 3), fill=FILL)
    return picture


def rotate(picture: Image.Image, side: int) -> Image.Image:
    """Turned by up to 15 degrees."""
    return picture.rotate(random.uniform(-15, 15), Image.Resampling.BILINEAR, fillcolor=FILL)


def mirror(picture: Image.Image, side: int) -> Image.Image:
    """Flipped half of the time."""
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else picture


LOOPS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "crop": crop,
    "flip": mirror,
    "resized_crop": resized_crop,
    "rotation": rotate,
    "brightness": enhance(ImageEnhance.Brightness),
    "contrast": enhance(ImageEnhance.Contrast),
    "saturation": enhance(ImageEnhance.Color),
    "color": enhance(ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color),
    "cutout": blank,
}


def loop(pictures: list[Image.Image], words: str, side: int) -> torch.Tensor:
    """The batch made one picture at a time."""
    names = [word.partition(":")[0] for word in words.split(",")]
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    made = []
    for picture in pictures:
        for name in names:
            picture = LOOPS[name](picture, side) if name in LOOPS else picture
        if picture.width != side:
            start = (picture.width - side) // 2
            picture = picture.crop((start, start, start + side, start + side))
        values = np.asarray(picture, np.float32) / 255
        if "pca_noise" in names:
            values = values + np.random.normal(0, 0.01, 3).astype(np.float32)  # noqa: NPY002
        made.append((values - mean) / std)
    if "mixup" in names:
        order = random.sample(range(len(made)), len(made))
        weights = [random.betavariate(0.2, 0.2) for _ in made]
        made = [w * own + (1 - w) * made[other] for own, other, w in zip(made, order, weights, strict=True)]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)


def measure(words: str, side: int, rounds: int) -> dict[str, float]:
    """Images per CPU second of the loop and of ours in float32 and bfloat16."""
    stored, batch = SIDES[side]
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (batch, stored, stored, 3), dtype=torch.uint8, generator=rng).permute(0, 3, 1, 2)
    pictures = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in x]
    ours = augment.compose(words, size=(side, side), mean=torch.tensor(MEAN), std=torch.tensor(STD))
    sides: dict[str, Callable[[], object]] = {
        "loop": lambda: loop(pictures, words, side),
        "float32": lambda: ours(x, rng),
        "bfloat16": lambda: ours(x, rng, torch.bfloat16),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in random.sample(list(sides), len(sides)):
            started = time.process_time()
            repeats = 0
            while time.process_time() - started < 0.05 or not repeats:
                sides[name]()
                repeats += 1
            if number:  # the first round warms up
                seconds[name].append((time.process_time() - started) / repeats)
    return {name: batch / statistics.median(taken) for name, taken in seconds.items()}


def main() -> None:
    """Print one table a size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, choices=list(SIDES), action="append", help="both when not given")
    parser.add_argument("--words", action="append", help="as in a recipe; every word when not given")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    allocator.keep_freed_memory()
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"torch {torch.__version__}, Python {platform.python_version()}, commit {commit}, one thread, CPU time")
    for side in given.side or SIDES:
        stored, batch = SIDES[side]
        print(f"\n{side} x {side} x 3 from {stored} x {stored}, batches of {batch}, {given.rounds} rounds\n")
        print("| words | Pillow loop, images/s | ours, images/s | times | ours in bfloat16 |")
        print("|---|---|---|---|---|")
        for words in given.words or WORDS:
            rate = measure(words, side, given.rounds)
            times = rate["float32"] / rate["loop"]
            print(f"| {words} | {rate['loop']:,.0f} | {rate['float32']:,.0f} | {times:.1f} | {rate['bfloat16']:,.0f} |")


if __name__ == "__main__":
    main()
