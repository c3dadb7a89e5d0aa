"""Shear, stretch, translation and lenses against their formulas, and that neighbours read the picture once."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from engram import augment
from engram.augment.lens_distortion import bend, bend_by, draw_lenses, lens_distortion
from engram.augment.rotation import draw_angles, rotate_by, rotation
from engram.augment.shear import draw_shears, shear, shear_by
from engram.augment.stretch import draw_stretches, stretch, stretch_by
from engram.augment.translation import draw_shifts, translate_by, translation
from engram.augment.warp import Warp, join, linear, read_at
from engram.errors import UserError

MEAN = torch.tensor([100.0, 30.0])


def inputs(*shape, seed=0, dtype=torch.float32):
    batch, channels, *lengths = shape
    values = np.random.default_rng(seed).integers(0, 256, (batch, *lengths, channels))
    return torch.from_numpy(values).to(dtype).movedim(-1, 1)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def places(shape):
    """Places from the centre in pixels, (n, *shape)."""
    return np.indices(shape) - (np.array(shape).reshape(-1, *[1] * len(shape)) - 1) / 2


def expected(picture, source, fill, mean=MEAN):
    """One picture (C, *S) read by SciPy at `source` (n, *S), pixels from the centre."""
    center = (np.array(picture.shape[1:]) - 1) / 2
    where = source + center.reshape(-1, *[1] * len(center))
    mode = {"mean": "grid-constant", "edge": "nearest", "reflect": "reflect"}[fill]
    return np.stack(
        [
            ndimage.map_coordinates(plane, where, order=1, mode=mode, cval=float(color))
            for plane, color in zip(picture.numpy(), mean, strict=True)
        ]
    )


@pytest.mark.parametrize("fill", ["mean", "edge", "reflect"])
@pytest.mark.parametrize("shape", [(9, 9), (8, 13)])
def test_shear_is_its_formula(shape, fill):
    x = inputs(4, 2, *shape)
    degrees = torch.tensor([[20.0, 0.0], [0.0, -15.0], [10.0, 30.0], [-45.0, 5.0]])
    results = shear_by(x, degrees, fill, MEAN)
    assert results.movedim(1, -1).is_contiguous()
    v, u = places(shape)
    for picture, (along_x, along_y), result in zip(x, np.tan(np.deg2rad(degrees.numpy())), results, strict=True):
        below = v + along_y * u  # read through the second shear, then through the first
        np.testing.assert_allclose(result, expected(picture, np.stack([below, u + along_x * below]), fill), atol=2e-2)


def test_shear_leans_to_the_right_and_raises_the_right():
    upright = torch.zeros(1, 1, 5, 5)
    upright[..., 2] = 1
    italic = shear_by(upright, torch.tensor([[45.0, 0.0]]))[0, 0]
    assert torch.equal(italic.round(), torch.eye(5).flip(1))
    lying = shear_by(upright.mT, torch.tensor([[0.0, 45.0]]))[0, 0]
    assert torch.equal(lying.round(), torch.eye(5).flip(1))


@pytest.mark.parametrize("fill", ["mean", "edge", "reflect"])
@pytest.mark.parametrize("shape", [(11,), (8, 13), (5, 6, 7)])
def test_stretch_is_its_formula(shape, fill):
    x = inputs(3, 2, *shape)
    factors = torch.tensor([[1.3, 0.7, 1.0], [0.6, 1.0, 1.7], [1.0, 1.5, 0.8]])[:, : len(shape)]
    results = stretch_by(x, factors, fill, MEAN)
    assert results.movedim(1, -1).is_contiguous()
    for picture, own, result in zip(x, factors.numpy(), results, strict=True):
        source = places(shape) / own.reshape(-1, *[1] * len(shape))
        np.testing.assert_allclose(result, expected(picture, source, fill), atol=2e-2)


@pytest.mark.parametrize("fill", ["mean", "edge", "reflect"])
@pytest.mark.parametrize("shape", [(11,), (8, 13), (5, 6, 7)])
def test_translation_is_its_formula(shape, fill):
    x = inputs(3, 2, *shape)
    shifts = torch.tensor([[1.0, -2.0, 0.0], [0.5, 0.25, -1.5], [-0.75, 3.0, 2.0]])[:, : len(shape)]
    results = translate_by(x, shifts, fill, MEAN)
    for picture, own, result in zip(x, shifts.numpy(), results, strict=True):
        source = places(shape) - own.reshape(-1, *[1] * len(shape))
        np.testing.assert_allclose(result, expected(picture, source, fill), atol=2e-2)


def test_whole_shifts_move_pixels_unchanged():
    x = inputs(1, 3, 6, 7, dtype=torch.uint8)
    moved = translate_by(x, torch.tensor([[2.0, -3.0]]), mean=torch.tensor([0.2, 0.4, 0.6]))
    assert torch.equal(moved[:, :, 2:, :4], x[:, :, :4, 3:])
    assert moved[0, :, 0, 0].tolist() == [51, 102, 153]


@pytest.mark.parametrize("fill", ["mean", "edge"])
@pytest.mark.parametrize("shape", [(9, 9), (8, 13)])
def test_lens_is_its_formula(shape, fill):
    x = inputs(3, 2, *shape)
    lenses = torch.tensor([0.3, -0.33, 0.05])
    results = bend_by(x, lenses, fill, MEAN)
    where = places(shape)
    squared = (where**2).sum(0) / ((shape[0] / 2) ** 2 + (shape[1] / 2) ** 2)
    for picture, k, result in zip(x, lenses.tolist(), results, strict=True):
        np.testing.assert_allclose(result, expected(picture, where * (1 + k * squared), fill), atol=2e-2)


def test_barrels_shrink_the_border_and_pincushions_enlarge_it():
    """A straight line near the upper border: nearer to the centre through a barrel, further out by a pincushion."""
    frame = torch.zeros(1, 1, 81, 81)
    frame[..., 16, :] = 1
    barrel, pincushion = (bend_by(frame, torch.tensor([k]))[0, 0] for k in (0.3, -0.3))
    assert barrel[:, 40].argmax() > 16
    assert barrel[:, 12].argmax() > barrel[:, 40].argmax()  # its middle bulges outwards
    assert pincushion[:, 40].argmax() < 16
    assert pincushion[:, 40].argmax() > pincushion[:, 12].argmax()


def test_a_lens_never_shows_anything_twice():
    """The strongest allowed pincushion is still in order from the centre past the corner."""
    radii = torch.linspace(0, 40, 200)
    v, u = bend(torch.tensor([-0.33]), (30, 30))([0.6 * radii[None], 0.8 * radii[None]])
    torch.testing.assert_close(u, v * 4 / 3)
    assert (v.diff() > 0).all()


@pytest.mark.parametrize(
    ("move", "amount"),
    [(shear_by, [[20.0, 10.0]]), (bend_by, [0.2]), (rotate_by, [30.0])],
)
def test_volumes_are_moved_plane_by_plane(move, amount):
    x = inputs(1, 2, 3, 8, 9)
    results = move(x, torch.tensor(amount), "mean", MEAN)
    for depth in range(3):
        torch.testing.assert_close(results[:, :, depth], move(x[:, :, depth], torch.tensor(amount), "mean", MEAN))


@pytest.mark.parametrize(
    ("still", "shape"),
    [
        (shear(0), (6, 7)),
        (stretch(1), (6, 7)),
        (stretch(1), (9,)),
        (translation(0), (3, 4, 5)),
        (lens_distortion(0), (6, 7)),
    ],
)
def test_nothing_changes_at_zero(still, shape):
    x = inputs(3, 2, *shape, dtype=torch.uint8)
    assert torch.equal(still(x, rng()), x)


def test_parameters_are_distributed_as_said():
    """Kolmogorov-Smirnov at one in 1,000, of 3,000 draws each."""

    def fits(values, distribution):
        return stats.kstest(values.numpy(), distribution.cdf).pvalue > 1e-3

    both = draw_shears(3000, 20, "both", rng(0))
    assert fits(both[:, 0], stats.uniform(-20, 40))
    assert fits(both[:, 1], stats.uniform(-20, 40))
    assert abs(np.corrcoef(both.T)[0, 1]) < 0.08  # 4.4 / sqrt(3,000)
    along_x, along_y = (draw_shears(3000, 20, axis, rng(0)) for axis in ("x", "y"))
    assert fits(along_x[:, 0], stats.uniform(-20, 40))
    assert fits(along_y[:, 1], stats.uniform(-20, 40))
    assert not along_x[:, 1].any()
    assert not along_y[:, 0].any()
    apart = draw_stretches(3000, 2, 1.5, False, rng(1)).log()
    for axis in (0, 1):
        assert fits(apart[:, axis], stats.uniform(-math.log(1.5), 2 * math.log(1.5)))
    assert abs(np.corrcoef(apart.T)[0, 1]) < 0.08
    together = draw_stretches(3000, 3, 1.5, True, rng(1))
    assert torch.equal(together[:, 0], together[:, 2])
    assert fits(together[:, 0].log(), stats.uniform(-math.log(1.5), 2 * math.log(1.5)))
    shifts = draw_shifts(3000, (20, 50), 0.1, rng(2))
    assert fits(shifts[:, 0], stats.uniform(-2, 4))
    assert fits(shifts[:, 1], stats.uniform(-5, 10))
    assert fits(draw_lenses(3000, 0.2, rng(3)), stats.uniform(-0.2, 0.4))


def test_the_drawn_parameters_are_used():
    x = inputs(4, 2, 8, 9)
    assert torch.equal(shear(20, "both", "edge")(x, rng(4)), shear_by(x, draw_shears(4, 20, "both", rng(4)), "edge"))
    expected_stretch = stretch_by(x, draw_stretches(4, 2, 1.4, False, rng(4)), "edge")
    assert torch.equal(stretch(1.4, "apart", "edge")(x, rng(4)), expected_stretch)
    assert torch.equal(translation(0.2)(x, rng(4)), translate_by(x, draw_shifts(4, (8, 9), 0.2, rng(4))))
    assert torch.equal(lens_distortion(0.3)(x, rng(4)), bend_by(x, draw_lenses(4, 0.3, rng(4))))


def test_two_maps_one_after_the_other_are_read_once():
    """Against the composed formula; a quarter turn there and back gives the picture itself, corners and all."""
    x = inputs(1, 2, 8, 8)
    v, u = places((8, 8))
    joined = read_at(x, [lambda q: [q[0] * 0.5, q[1] * 0.5], lambda q: [q[0] + 1, q[1] - 2]], fill="edge")
    np.testing.assert_allclose(joined[0], expected(x[0], np.stack([(v + 1) / 2, (u - 2) / 2]), "edge"), atol=2e-2)
    angle = math.radians(33)
    there = torch.tensor([[[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]])
    torch.testing.assert_close(read_at(x, [linear(there), linear(there.mT)], mean=MEAN), x, atol=2e-2, rtol=0)


def test_neighbours_with_one_fill_are_joined_in_the_order_of_the_words():
    x = inputs(5, 2, 9, 9)
    words = [rotation(30, mean=MEAN), shear(20, mean=MEAN), stretch(1.3, mean=MEAN)]
    (joined,) = join(words)
    assert isinstance(joined, Warp)
    shared = rng(7)
    angles = draw_angles(5, 30, shared)
    shears = draw_shears(5, 20, "x", shared)
    factors = draw_stretches(5, 2, 1.3, False, shared)
    result = joined(x, rng(7))
    v, u = places((9, 9))
    for index in range(5):
        a, s = math.radians(angles[index]), math.tan(math.radians(shears[index, 0]))
        v1, u1 = v / factors[index, 0].item(), u / factors[index, 1].item()  # the last word's map comes first
        u1 = u1 + s * v1
        source = np.stack([u1 * math.sin(a) + v1 * math.cos(a), u1 * math.cos(a) - v1 * math.sin(a)])
        np.testing.assert_allclose(result[index], expected(x[index], source, "mean"), atol=3e-2)
    assert torch.equal(joined(x, rng(7)), result)


def test_what_is_no_neighbour_is_not_joined():
    other = lambda x, rng: x  # noqa: E731
    assert len(join([rotation(5), other, shear(5)])) == 3
    assert len(join([rotation(5, "edge"), shear(5)])) == 2
    assert len(join([rotation(5, mean=MEAN), shear(5, mean=MEAN + 1)])) == 2
    assert len(join([rotation(5, mean=MEAN), shear(5, mean=MEAN), other])) == 2
    assert join([]) == []


def test_joined_reading_is_sharper_than_reading_twice():
    """Noise turned by 20 degrees, sheared and stretched: every bilinear reading takes away a third of its variance."""
    x = torch.randn(16, 1, 32, 32, generator=rng())
    words = [rotation(20, "reflect"), shear(15, "both", "reflect"), stretch(1.1, "apart", "reflect")]
    (once,) = join(words)
    shared, twice = rng(1), x
    for word in words:
        twice = word(twice, shared)
    assert once(x, rng(1)).var() > 1.5 * twice.var()


def test_planes_and_volumes_may_be_joined():
    x = inputs(2, 2, 4, 6, 7)
    (joined,) = join([shear(20, mean=MEAN), stretch(1.3, mean=MEAN)])
    assert not joined.planar
    shared = rng(3)
    degrees, factors = draw_shears(2, 20, "x", shared), draw_stretches(2, 3, 1.3, False, shared)
    result = joined(x, rng(3))
    d, v, u = places((4, 6, 7))
    for index in range(2):
        d1, v1, u1 = (axis / factors[index, number].item() for number, axis in enumerate((d, v, u)))
        source = np.stack([d1, v1, u1 + math.tan(math.radians(degrees[index, 0])) * v1])
        np.testing.assert_allclose(result[index], expected(x[index], source, "mean"), atol=3e-2)
    (planar,) = join([shear(20), lens_distortion(0.1)])
    assert planar.planar


def test_words_of_a_recipe_are_joined():
    made = augment.compose(
        "flip:0,rotation:20,shear:10,translation:0.1,stretch:1.1,lens_distortion:0.1",
        size=(12, 10),
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
    )
    x = inputs(6, 3, 12, 10, dtype=torch.uint8)
    first, again = made(x, rng(1)).x, made(x, rng(1)).x
    assert torch.equal(first, again)
    assert [type(step).__name__ for step in made._stages["pixels"]][1:2] == ["Warp"]
    assert len(made._stages["pixels"][1].draws) == 5
    assert made.words[1:6] == ("rotation:20", "shear:10", "translation:0.1", "stretch:1.1", "lens_distortion:0.1")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: shear(46), "shear: degrees cannot be 46"),
        (lambda: shear(5, "z"), "shear: along cannot be 'z'"),
        (lambda: shear(5, "x", "white"), "shear: fill cannot be 'white'"),
        (lambda: stretch(0.5), "stretch: factor cannot be 0.5"),
        (lambda: stretch(2.5), "stretch: factor cannot be 2.5"),
        (lambda: stretch(1.1, "each"), "stretch: axes cannot be 'each'"),
        (lambda: translation(1.5), "translation: share cannot be 1.5"),
        (lambda: translation(0.5, 3), "translation: fill cannot be 3"),
        (lambda: lens_distortion(0.34), "lens_distortion: strength cannot be 0.34"),
        (lambda: lens_distortion(0.1, "white"), "lens_distortion: fill cannot be 'white'"),
    ],
)
def test_settings_out_of_range(build, message):
    with pytest.raises(UserError, match=message):
        build()
