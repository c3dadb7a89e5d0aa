"""The same picture stored anew is found, whatever was done to the file; different pictures are left alone."""

import io

import numpy as np
import pytest
import scipy.fft
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from engram.data import duplicates, likeness


def tiles(side=40):
    """(N, 3, side, side) pieces of two real photographs that do not overlap and show something."""
    pieces = []
    for photo in load_sample_images().images:
        for top in range(0, photo.shape[0] - side, side):
            pieces += [photo[top : top + side, left : left + side] for left in range(0, photo.shape[1] - side, side)]
    pieces = np.stack([piece for piece in pieces if piece[:32, :32].mean(2).std() > 20])
    return pieces.transpose(0, 3, 1, 2)


TILES = tiles()


def found_among(pictures):
    """Pairs of indices that are called near duplicates."""
    thumbnails = likeness.thumbnails(torch.from_numpy(np.ascontiguousarray(pictures)))
    return {(i, j) for i, j, _ in duplicates.near(likeness.hashes(thumbnails), lambda asked: thumbnails[asked])}


def each(change):
    return lambda pictures: np.stack([change(picture.transpose(1, 2, 0)).transpose(2, 0, 1) for picture in pictures])


@each
def reencoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=50)
    return np.array(Image.open(file))


@each
def resized(pixels):
    return np.array(Image.fromarray(pixels).resize((30, 30)).resize(pixels.shape[1::-1]))


def brighter(pictures):
    return (pictures * 1.25).clip(0, 255).astype(np.uint8)


def paler(pictures):
    return (pictures * 0.6 + 60).astype(np.uint8)


def moved(down, right):
    """By whole pixels, the border repeated."""

    def change(pictures):
        padded = np.pad(pictures, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
        height, width = pictures.shape[2:]
        return padded[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    return change


MOVES = [moved(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]


@pytest.mark.parametrize("change", [reencoded, resized, brighter, paler, *MOVES])
@pytest.mark.parametrize("side", [40, 32])
def test_the_same_picture_stored_anew_is_found(change, side):
    originals = TILES[:, :, :side, :side]
    number = len(originals)
    found = found_among(np.concatenate([originals, change(originals)]))
    planted = {(index, index + number) for index in range(number)}
    assert len(found & planted) >= 0.97 * number
    assert len(found - planted) <= 2  # of 38,000 pairs


def test_pieces_of_one_photograph_are_no_duplicates():
    assert found_among(TILES) == set()


def test_different_digits_are_no_duplicates_and_copies_of_them_are():
    digits = load_digits().images.astype(np.uint8)[:, None]
    assert found_among(digits) == set()
    copied = np.concatenate([digits[:600], digits[:20] * 0.9 + 1])
    assert found_among(copied) >= {(index, 600 + index) for index in range(20)}


def test_the_noise_of_a_plain_wall_is_no_likeness():
    rng = np.random.default_rng(0)
    walls = np.clip(rng.normal(128, 0.7, (100, 3, 32, 32)) + rng.integers(-60, 60, (100, 1, 1, 1)), 0, 255)
    assert found_among(np.concatenate([reencoded(walls.astype(np.uint8)), TILES[:, :, :32, :32]])) == set()


def test_flat_pictures_are_not_all_alike():
    flat = torch.zeros(30, 3, 16, 16, dtype=torch.uint8) + torch.arange(30, dtype=torch.uint8)[:, None, None, None]
    assert found_among(flat.numpy()) == set()


def test_one_picture_and_none_have_no_pairs():
    assert found_among(TILES[:1]) == set()
    assert found_among(TILES[:0]) == set()


def test_thumbnails_are_luma_and_the_mean_of_areas():
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 64, 16), np.uint8))
    grey = 0.299 * x[:, 0].double() + 0.587 * x[:, 1].double() + 0.114 * x[:, 2].double()
    expected = grey.reshape(2, 32, 2, 8, 2).mean((2, 4))
    torch.testing.assert_close(likeness.thumbnails(x).double(), expected, rtol=1e-5, atol=1e-3)
    assert likeness.thumbnails(x[:, :, :45]).shape == (2, 45, 16)  # blocks are whole
    assert likeness.thumbnails(x[:, :, :49]).shape == (2, 24, 8)  # and what is left over is cut
    two = torch.arange(50.0).reshape(1, 2, 5, 5)
    torch.testing.assert_close(likeness.thumbnails(two), two.mean(1))


def test_hashes_are_the_signs_of_low_frequencies_of_the_interior():
    thumbnails = likeness.thumbnails(torch.from_numpy(TILES[:20, :, :32, :32]))
    hashes = likeness.hashes(thumbnails)
    signs = np.unpackbits(hashes.view(np.uint8).reshape(20, 5, 8), axis=2)
    for place, (down, right) in enumerate(likeness.OFFSETS):
        interior = thumbnails.numpy()[:, 1 + down : 31 + down, 1 + right : 31 + right]
        plane = scipy.fft.dctn(interior.astype(np.float64), type=2, axes=(1, 2))
        u, v = np.meshgrid(np.arange(12), np.arange(12), indexing="ij")
        lowest = sorted(zip((u + v).ravel(), u.ravel(), v.ravel(), strict=True))[1:65]
        expected = np.stack([plane[:, i, j] > 0 for _, i, j in lowest], 1)
        assert (np.sort(signs[:, place], axis=1) == np.sort(expected, axis=1)).all()  # the same bits, in some order
        order = [np.flatnonzero((signs[:, place] == column[:, None]).all(0)) for column in expected.T]
        assert {int(index) for found in order for index in found} == set(range(64))


def test_a_picture_moved_by_a_pixel_has_the_hash_of_the_interior_that_it_shows():
    original = torch.from_numpy(TILES[:10, :, :32, :32])
    for place, (down, right) in enumerate(likeness.OFFSETS):
        there = torch.roll(original, (-down, -right), (2, 3))
        first, second = (likeness.thumbnails(x) for x in (original, there))
        assert (likeness.hashes(first)[:, place] == likeness.hashes(second)[:, 0]).all()
        torch.testing.assert_close(likeness.likeness(first, second, place), torch.ones(10))


def test_small_pictures_have_hashes_of_fewer_bits():
    small = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 5, 6)).astype(np.float32))
    hashes = likeness.hashes(small)
    assert hashes.shape == (9, 5)
    assert (np.unpackbits(hashes.view(np.uint8).reshape(45, 8), axis=1)[:, 11:] == 0).all()  # 3 x 4 less the mean


def test_likeness_is_the_correlation_of_edges():
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=(4, 7, 6)) for _ in range(2))
    got = likeness.likeness(*(100 * torch.from_numpy(x).float() for x in (first, second)), 2)
    down, right = likeness.OFFSETS[2]
    for index in range(4):
        moved_, still = first[index, 1 + down : 6 + down, 1 + right : 5 + right], second[index, 1:6, 1:5]
        a, b = (np.concatenate([np.diff(x, axis=0).ravel(), np.diff(x, axis=1).ravel()]) for x in (moved_, still))
        assert got[index] == pytest.approx(a @ b / np.sqrt(a @ a * (b @ b)), abs=1e-5)
    faint = torch.from_numpy(first).float()  # edges of 1.4 grey levels, where 2 count
    assert (likeness.likeness(faint, faint, 0) < 0.8).all()


def with_likeness(alike):
    """Thumbnails (M, 2, D) whose edges correlate as the matrix says: flat down, and across a root of it."""
    values, vectors = np.linalg.eigh(alike)
    edges = vectors * np.sqrt(values.clip(0))
    rows = np.concatenate([np.zeros((len(edges), 1)), np.cumsum(edges, axis=1)], axis=1)
    return 1e4 * torch.from_numpy(np.stack([rows, rows], 1)).float()


def test_the_threshold_is_past_what_strangers_reach():
    # twelve pictures; the second nearest of each is as alike as `strangers` says, its copy 0.95
    strangers = np.linspace(0.5, 0.6, 6)
    alike = np.full((12, 12), 0.45)
    for pair, value in enumerate(strangers):
        here, there = slice(2 * pair, 2 * pair + 2), slice((2 * pair + 2) % 12, (2 * pair + 2) % 12 + 2)
        alike[here, here] = 0.9
        alike[here, there] = np.maximum(alike[here, there], value)
        alike[there, here] = alike[here, there].T
    np.fill_diagonal(alike, 1)
    np.fill_diagonal(alike[::1], 1)
    sample = with_likeness(alike)
    second = np.sort(np.where(np.eye(12) == 1, -1, alike), axis=1)[:, -2]
    z = np.arctanh(second)
    spread = 1.4826 * np.sort(np.abs(z - np.sort(z)[5]))[5]  # the lower median, as torch takes it
    assert likeness.threshold(sample) == pytest.approx(np.tanh(np.sort(z)[5] + 10 * spread), abs=2e-3)
    assert likeness.SURE < likeness.threshold(sample) < likeness.ALWAYS


def test_the_threshold_has_bounds():
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 50, (50, 16, 16))).float()
    assert likeness.threshold(noise) == pytest.approx(likeness.SURE)
    assert likeness.threshold(noise[:3]) == likeness.SURE
    assert likeness.threshold(noise[:1] + 0.05 * noise[1:]) == pytest.approx(likeness.ALWAYS)


def test_proposals_are_the_pairs_a_few_bits_apart():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, (400, 5), np.uint64)
    planted = set()
    for index in range(200):  # spread over the bits; the beginnings that stay whole bring them together
        i, j, offset = index, 200 + index, index % 5
        bits = np.uint64(1) << rng.choice(64, rng.integers(0, 5), replace=False).astype(np.uint64)
        hashes[j, 0] = hashes[i, offset] ^ np.bitwise_or.reduce(bits, initial=np.uint64(0))
        planted.add((i, j, offset))
    found = set(zip(*(values.tolist() for values in duplicates._proposals(hashes)), strict=True))
    assert len(planted - found) <= 2
    for i, j, offset in found:
        assert int(hashes[i, offset] ^ hashes[j, 0]).bit_count() <= duplicates.APART
        assert i != j
    assert not {(i, j) for i, j, offset in found if offset == 0 and i >= j}


def test_a_crowded_set_keeps_the_nearest_proposals(monkeypatch):
    rng = np.random.default_rng(0)
    bits = (rng.random((300, 5, 64)) < 0.06).astype(np.uint8)  # all of them near zero
    hashes = np.packbits(bits, axis=2).view(np.uint64)[..., 0]
    hashes[299, 0] = hashes[7, 0]
    monkeypatch.setattr(duplicates, "MOST", 100)
    first, second, offset = duplicates._proposals(hashes)
    assert len(first) <= 100
    assert (7, 299, 0) in set(zip(first.tolist(), second.tolist(), offset.tolist(), strict=True))
    apart = np.bitwise_count(hashes[first, offset] ^ hashes[second, 0])
    assert apart.max() < 6  # of a dozen allowed


def test_digests_tell_content_and_nothing_else():
    x = torch.from_numpy(TILES[:3].copy())
    last = x.contiguous(memory_format=torch.channels_last)
    assert duplicates.digests([x]) == duplicates.digests([last[:2], last[2:]])
    assert len(set(duplicates.digests([x]))) == 3
    x[0, 0, 0, 0] ^= 1
    assert duplicates.digests([x])[0] != duplicates.digests([last])[0]
    assert duplicates.digests([x])[1:] == duplicates.digests([last])[1:]


def test_pairs_are_linked_to_groups():
    pairs = [(1, 2), (8, 9), (3, 4), (2, 3), (9, 10), (0, 10)]
    assert duplicates.linked(pairs) == [[0, 8, 9, 10], [1, 2, 3, 4]]
    assert duplicates.linked([]) == []
