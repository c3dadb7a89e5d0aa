"""Word lists: order, refusals, exact repetition, and the batch that comes out."""

import numpy as np
import pytest
import torch

from engram import augment
from engram.augment.cutout import cutout
from engram.augment.flip import flip
from engram.augment.normalize import normalize
from engram.augment.pca_noise import pca_noise
from engram.errors import UserError

MEAN, STD = torch.tensor([0.49, 0.48, 0.44]), torch.tensor([0.24, 0.25, 0.26])


def pictures(batch=6, channels=3, height=12, width=10):
    values = np.random.default_rng(0).integers(0, 256, (batch, height, width, channels), dtype=np.uint8)
    return torch.from_numpy(values).movedim(-1, 1)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def build(words, size=(12, 10), channels=3, **settings):
    return augment.compose(words, size=size, mean=MEAN[:channels], std=STD[:channels], **settings)


def test_no_word_cuts_the_middle_and_normalises():
    x = pictures()
    for words in ("none", "", ()):
        batch = build(words, size=(8, 6))(x, rng())
        assert torch.equal(batch.x, normalize(x[:, :, 2:10, 2:8], MEAN, STD))
        assert batch.partner is None
        assert batch.weight is None


def test_words_work_in_the_order_of_their_stages():
    given = build("mixup:0.2,cutout:3,color:0.1,flip,crop:2")
    assert given.words == ("flip", "crop:2", "color:0.1", "cutout:3", "mixup:0.2")
    other = build("crop:2,flip")
    assert other.words == ("crop:2", "flip")  # as given within a stage
    assert build("flip,cutout:3").words == ("flip", "center_crop", "cutout:3")


def test_the_steps_are_those_of_the_words():
    x = pictures()
    palette = (torch.tensor([0.5, 0.2, 0.1]), torch.eye(3))
    made = build("cutout:3,pca_noise:0.3,flip", palette=palette)(x, rng(5))
    shared = rng(5)
    expected = flip()(x, shared)
    expected = pca_noise(0.3, palette=palette)(expected.float() / 255, shared)
    expected = normalize(expected, MEAN, STD)
    expected = cutout(3)(expected, shared)
    torch.testing.assert_close(made.x, expected, atol=1e-5, rtol=0)


def test_crop_gets_size_and_mean():
    x = torch.full((4, 3, 12, 10), 255, dtype=torch.uint8)
    seen = build("crop:6", size=(9, 7))(x, rng()).x
    assert seen.shape == (4, 3, 9, 7)
    assert 0 < (seen.abs() < 0.01).float().mean() < 1  # the margin is zero


def test_mixup_gives_partner_and_weight():
    batch = build("mixup:1")(pictures(), rng())
    assert batch.partner.shape == batch.weight.shape == (6,)
    with pytest.raises(UserError, match=r"'mixup' and 'mixup:0\.1'"):
        build("mixup,mixup:0.1")


@pytest.mark.parametrize("words", ["crop:2,flip,color:0.3,pca_noise,cutout:3,mixup:0.5", "resized_crop,rotation:20"])
def test_the_same_generator_state_gives_the_same_batch(words):
    x, made = pictures(), build(words)
    first, again, later = made(x, rng(1)), made(x, rng(1)), made(x, rng(2))
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, later.x)
    shared = rng(1)
    made(x, shared)
    second = made(x, shared)
    resumed = torch.Generator()
    after_first = rng(1)
    made(pictures() // 2, after_first)  # other pictures of the same shape take as many draws
    resumed.set_state(after_first.get_state())
    assert torch.equal(made(x, resumed).x, second.x)


@pytest.mark.parametrize("words", ["crop:2,flip,color:0.3,pca_noise,cutout:3", "mixup:0.5,resized_crop,rotation:20"])
def test_bfloat16_is_the_float32_path_rounded(words):
    x, made = pictures(), build(words)
    full, half = made(x, rng(1)), made(x, rng(1), torch.bfloat16)
    assert half.x.dtype == torch.bfloat16
    assert half.x.movedim(1, -1).is_contiguous()
    # Values reach 2.2 / 0.25: bfloat16 keeps 8 bits, mixup rounds the weight, both pictures and the sum.
    torch.testing.assert_close(half.x.float(), full.x, atol=0.03, rtol=0.01)
    assert half.x.float().sub(full.x).abs().mean() < 0.01


def test_the_stored_batch_is_left_alone():
    x = pictures()
    before = x.clone()
    build("crop:2,flip,rotation,color:0.3,pca_noise,cutout:3,mixup:0.5")(x, rng())
    assert torch.equal(x, before)


def test_signals_and_volumes():
    for shape in ((20,), (6, 7, 8)):
        x = torch.randn(4, 2, *shape, generator=rng())
        made = augment.compose(
            "crop:2,flip,cutout:3,mixup", size=shape, mean=torch.tensor([0.1, 0.2]), std=torch.tensor([1.0, 2.0])
        )
        batch = made(x, rng())
        assert batch.x.shape == x.shape
        assert batch.x.isfinite().all()
        assert batch.x.movedim(1, -1).is_contiguous()


@pytest.mark.parametrize(
    ("words", "size", "channels", "message"),
    [
        ("rotation:5", (20,), 1, "'rotation:5' has no meaning for 1-D data"),
        ("resized_crop", (8, 8, 8), 1, "'resized_crop' has no meaning for 3-D data"),
        ("color:0.2", (20,), 3, "'color:0.2' has no meaning for 1-D data"),
        ("saturation:0.2", (8, 8), 1, "'saturation:0.2' has no meaning for data of 1 channel"),
        ("pca_noise", (8, 8), 1, "'pca_noise' has no meaning for data of 1 channel"),
        ("flp", (8, 8), 3, "augmentation 'flp' is not known"),
        ("crop:4:5:6", (8, 8), 3, "more settings"),
        ("crop:size=3", (8, 8), 3, "'crop' has no setting 'size'"),
        ("crop:-4", (8, 8), 3, "crop: padding cannot be -4"),
        ("cutout:big", (8, 8), 3, "cutout: side cannot be 'big'"),
    ],
)
def test_words_without_meaning_are_refused_by_name(words, size, channels, message):
    with pytest.raises(UserError) as told:
        build(words, size=size, channels=channels)
    assert message in str(told.value)
    assert told.value.allowed or told.value.nearest
    assert len(str(told.value).splitlines()) <= 5


def test_an_unknown_word_names_the_nearest():
    with pytest.raises(UserError) as told:
        augment.check("cutot:8")
    assert told.value.nearest == "cutout"


def test_grey_pictures_may_change_in_brightness_and_contrast():
    x = pictures(channels=1)
    batch = build("brightness:0.5,contrast:0.5,color:0.5", channels=1)(x, rng())
    assert batch.x.shape == x.shape


def test_colours_of_floats_are_refused():
    with pytest.raises(UserError, match="'brightness' changes the colours of pictures stored as uint8"):
        build("flip,brightness")(torch.rand(2, 3, 12, 10), rng())


def test_words_are_checked_without_data():
    assert [step.word.name for step in augment.check("crop:4,flip")] == ["crop", "flip"]
    with pytest.raises(UserError, match="rotation: degrees cannot be 200"):
        augment.check("rotation:200")


def test_a_builder_of_ones_own_gets_normalised_inputs(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def shift(by=1.0):\n    '''Adds.'''\n    return lambda x, rng: x + by\n")
    x = pictures()
    made = build(f"flip:0,{file}:shift:2")(x, rng())
    torch.testing.assert_close(made.x, normalize(x, MEAN, STD) + 2)
