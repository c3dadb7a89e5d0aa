"""Augmentation, normalisation and test-time averaging: a batch at a time, on the device, one file an idea.

Each file has a pure function on explicit parameters (`crop_at`, `flip_where`), the draw of those parameters from a
generator (`draw_corners`), and a registered builder named as the word is typed (`crop`), which puts the two together.
"""

from engram.augment.auto import auto, resolve
from engram.augment.compose import Augment, Batch, check, compose
from engram.augment.normalize import normalize
from engram.augment.views import Views, views
from engram.augment.views import check as check_views

__all__ = ["Augment", "Batch", "Views", "auto", "check", "check_views", "compose", "normalize", "resolve", "views"]
