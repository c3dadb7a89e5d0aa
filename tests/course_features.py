"""The course's features of a picture: gradients by direction in cells of 8 x 8 pixels, and a histogram of hues.

144 + 10 numbers: 9 directions in each of 4 x 4 cells, the mean strength of the gradients that point there, and the
shares of pixels in ten ranges of hue. Less their mean, over their deviation, both of those to train on, with a 1 for
the bias. As in the course the grey of a pixel is 0.299 R + 0.587 G + 0.144 B (114 is meant), and where directions end
nothing is smoothed. The cells' means are the course's: its box filter of 8 pixels is asked in the middle of each cell.

Stanford CS231n, assignment 1, `hog_feature` and `color_histogram_hsv`.
"""

from functools import cache

import numpy as np

from course_pictures import Pictures, raw

CELL, DIRECTIONS, HUES = 8, 9, 10


def gradients_by_direction(X: np.ndarray) -> np.ndarray:
    """(N, 144) of pictures (N, 3, H, W)."""
    grey = np.tensordot(np.array([0.299, 0.587, 0.144]), X.astype(float), axes=([0], [1]))
    across, down = np.zeros_like(grey), np.zeros_like(grey)
    across[:, :, :-1], down[:, :-1, :] = np.diff(grey, axis=2), np.diff(grey, axis=1)
    degrees = np.arctan2(down, across + 1e-15) * (180 / np.pi) + 90  # -90 to 270: what lies outside counts nowhere
    strength = np.hypot(across, down)
    side = X.shape[-1] // CELL
    found = [
        np.where((degrees >= low) & (degrees < low + 20) & (degrees > 0), strength, 0)
        .reshape(len(X), side, CELL, side, CELL)
        .mean((2, 4))
        for low in range(0, 180, 180 // DIRECTIONS)
    ]
    return np.stack(found, axis=-1).reshape(len(X), -1)


def hues(X: np.ndarray) -> np.ndarray:
    """(N, 10) of pictures (N, 3, H, W)."""
    r, g, b = X.astype(float).transpose(1, 0, 2, 3)
    high, low = X.max(1).astype(float), X.min(1).astype(float)
    spread = np.where(high > low, high - low, 1)
    # where two channels are highest the later of red, green and blue decides, as in matplotlib's rgb_to_hsv
    hue = np.select([b == high, g == high], [4 + (r - g) / spread, 2 + (b - r) / spread], (g - b) / spread)
    hue = np.where(high > low, hue / 6 % 1, 0)
    # many hues lie right on an edge, so the edges are the course's, of 0 to 255
    part = np.searchsorted(np.linspace(0, 255, HUES + 1)[1:-1], hue * 255, side="right").reshape(len(X), -1)
    return np.stack([(part == index).mean(1) for index in range(HUES)], axis=1)


@cache
def features() -> Pictures:
    """(N, 155) in the place of pictures."""
    found = raw()
    X, X_val, X_test = (
        np.concatenate([np.concatenate([gradients_by_direction(part), hues(part)], axis=1) for part in pieces])
        for pieces in (np.array_split(X, 1 + len(X) // 5000) for X in (found.X, found.X_val, found.X_test))
    )
    middle, deviation = X.mean(0), X.std(0)
    X, X_val, X_test = ((part - middle) / deviation for part in (X, X_val, X_test))
    ends = (np.concatenate([part, np.ones((len(part), 1))], axis=1) for part in (X, X_val, X_test))
    X, X_val, X_test = ends
    return found._replace(X=X, X_val=X_val, X_test=X_test)
