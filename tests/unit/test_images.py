"""Decoding: what becomes of each form of image, and that what is no image is refused by name."""

import io
import os
import signal
import struct
import threading
import time
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from engram.data import images
from engram.data.examples import Unreadable
from engram.data.images import decode, fit, is_image_name, read_image, to_channels
from engram.errors import UserError


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def picture(height=5, width=7, channels=3, seed=0):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_rgb_and_grey_come_out_as_they_are():
    colour, grey = picture(), picture(channels=1)
    assert np.array_equal(decode(encoded(Image.fromarray(colour)), "a"), colour.transpose(2, 0, 1))
    assert np.array_equal(decode(encoded(Image.fromarray(grey)), "a"), grey[None])


def test_the_result_can_be_written_to_and_lies_channels_last():
    image = decode(encoded(Image.fromarray(picture())), "a")
    assert image.flags.writeable
    assert image.transpose(1, 2, 0).flags.c_contiguous


def test_black_and_white_is_0_and_255():
    image = decode(encoded(Image.fromarray(np.array([[True, False]]))), "a")
    assert image.tolist() == [[[255, 0]]]


def test_palette_is_looked_up():
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 128, 255])
    assert decode(encoded(image), "a").tolist() == [[[255, 0]], [[0, 128]], [[0, 255]]]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])], ids=["index", "bytes"])
def test_transparent_palette_entry_is_white(transparency):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 128, 255])
    assert decode(encoded(image, transparency=transparency), "a").tolist() == [[[255, 255]], [[0, 255]], [[0, 255]]]


def test_alpha_is_composited_over_white():
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [10, 20, 30, 51]]], np.uint8)
    image = decode(encoded(Image.fromarray(pixels)), "a")
    assert image[:, 0, 0].tolist() == [10, 20, 30]
    assert image[:, 0, 1].tolist() == [255, 255, 255]
    assert image[:, 0, 2].tolist() == [206, 208, 210]  # 0.2 of the colour, 0.8 of white


def test_compositing_agrees_with_pillow():
    pixels = picture(40, 40, 4)
    paper = Image.new("RGBA", (40, 40), "white")
    paper.alpha_composite(Image.fromarray(pixels))
    theirs = np.asarray(paper.convert("RGB")).transpose(2, 0, 1).astype(int)
    assert np.abs(decode(encoded(Image.fromarray(pixels)), "a") - theirs).max() <= 1


def test_grey_with_alpha_stays_one_channel():
    image = Image.fromarray(np.array([[[100, 255], [100, 0]]], np.uint8), "LA")
    assert decode(encoded(image), "a").tolist() == [[[100, 255]]]


def test_declared_transparent_colour_is_white():
    grey = Image.fromarray(np.array([[7, 9]], np.uint8))
    assert decode(encoded(grey, transparency=9), "a").tolist() == [[[7, 255]]]
    colour = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert decode(encoded(colour, transparency=(1, 2, 3)), "a")[:, 0].tolist() == [[255, 4], [255, 5], [255, 6]]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled(form):
    deep = np.array([[0, 257, 12850, 65535, 128, 129]], np.uint16)
    image = decode(encoded(Image.fromarray(deep), form), "a")
    assert image.tolist() == [[[0, 1, 50, 255, 0, 1]]]
    assert image.dtype == np.uint8


def test_big_endian_sixteen_bits_are_scaled():
    deep = np.array([[0, 12850, 65535]], ">u2")
    image = Image.frombytes("I;16B", (3, 1), deep.tobytes())
    assert decode(encoded(image, "TIFF"), "a").tolist() == [[[0, 50, 255]]]


def test_sixteen_bit_png_is_not_stretched():
    deep = np.full((2, 2), 1000, np.uint16)
    assert decode(encoded(Image.fromarray(deep)), "a").max() == 4


def test_floats_are_read_as_0_to_1():
    image = Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))
    assert decode(encoded(image, "TIFF"), "a").tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.array([[0.0, 1.5]], np.float32), "float pixels from 0 to 1.5; only 0 to 1 can be read"),
        (np.array([[np.nan, 0.5]], np.float32), "float pixels from nan to nan; only 0 to 1 can be read"),
        (np.array([[-1, 5]], np.int32), "integer pixels from -1 to 5; only 0 to 65535 can be read"),
        (np.array([[0, 65536]], np.int32), "integer pixels from 0 to 65536; only 0 to 65535 can be read"),
    ],
)
def test_numbers_outside_the_range_are_refused(pixels, said):
    with pytest.raises(Unreadable) as error:
        decode(encoded(Image.fromarray(pixels), "TIFF"), "a")
    assert error.value.why == said


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (MemoryError(), "does not fit in memory when decoded"),
        (struct.error("unpack requires 4 bytes"), "truncated: the file ends before the image does"),
        (EOFError(), "truncated: the file ends before the image does"),
        (ValueError("strange\nin two lines"), "strange"),
        (ZeroDivisionError(), "ZeroDivisionError"),
    ],
)
def test_whatever_pillow_raises_is_told_by_name(monkeypatch, raised, said):
    def fail(*_):
        raise raised

    monkeypatch.setattr(images, "_decode", fail)
    with pytest.raises(Unreadable) as error:
        decode(b"something", "a.png")
    assert (error.value.name, error.value.why) == ("a.png", said)


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # full magenta and yellow
    red = decode(encoded(image, "JPEG", quality=95), "a")
    assert red.shape == (3, 8, 8)
    assert np.abs(red[:, 4, 4].astype(int) - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize(("mode", "colour"), [("YCbCr", (81, 90, 240)), ("LAB", (135, 208, 195))])
def test_other_colour_spaces_become_rgb(mode, colour):
    red = decode(encoded(Image.new(mode, (4, 4), colour), "TIFF"), "a")
    assert red.shape == (3, 4, 4)
    assert red[0, 0, 0] > 180
    assert red[1:, 0, 0].max() < 90


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # white in the upper left corner, and wider than high
    # how a camera held that way stores it: the turn that the reader has to undo
    undo = {1: 0, 2: "flip", 3: 2, 4: "upside", 5: "transpose", 6: 1, 7: "transverse", 8: 3}[orientation]
    stored = {
        0: upright,
        "flip": upright[:, ::-1],
        2: np.rot90(upright, 2),
        "upside": upright[::-1],
        "transpose": upright.transpose(1, 0, 2),
        1: np.rot90(upright, 1),
        "transverse": np.rot90(upright, 2).transpose(1, 0, 2),
        3: np.rot90(upright, 3),
    }[undo]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for form, options in (("PNG", {}), ("JPEG", {"quality": 100}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        file = encoded(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif, **options)
        image = decode(file, "a")
        assert image.shape == (3, 16, 32), form
        assert np.abs(image.transpose(1, 2, 0).astype(int) - upright).max() < 40, form


def test_damaged_exif_does_not_lose_the_image():
    file = encoded(Image.fromarray(picture()), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\x01")
    assert decode(file, "a").shape == (3, 5, 7)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        file = encoded(frames[0], form, save_all=True, append_images=frames[1:])
        assert np.abs(decode(file, "a")[:, 0, 0].astype(int) - [255, 0, 0]).max() <= 3, form


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF"])
def test_every_form_is_read_and_its_name_does_not_matter(form, tmp_path):
    try:
        file = encoded(Image.new("RGB", (20, 10), (250, 10, 10)), form)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow cannot write {form}")
    path = tmp_path / "wrongly_named.jpg"
    path.write_bytes(file)
    image = read_image(path)
    assert image.shape == (3, 10, 20)
    assert np.abs(image[:, 5, 10].astype(int) - [250, 10, 10]).max() <= 12


def test_empty_file(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(Unreadable, match=r"cats/empty\.png: the file is empty \(0 bytes\)"):
        read_image(path, "cats/empty.png")


def test_missing_file(tmp_path):
    with pytest.raises(Unreadable, match=r"gone\.png: No such file"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not an image at all, only words", "it is text"),
        ("naïve ".encode() * 80, "it is text"),
        (b"<!DOCTYPE html><html>404</html>", "it is a web page"),
        (b"<svg xmlns='...'/>", "it is SVG or XML"),
        (b"%PDF-1.7", "it is a PDF"),
        (b"PK\x03\x04....", "it is a zip archive"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "it is HEIC or a video; convert it to JPEG"),
        (b"\0" * 600, "it is all zero bytes"),
        (b"\xff\xfe\x80\x91\x92\x93" * 20, "no known format"),
        (b"words and\0no words", "no known format"),
        (b"a" + "é".encode() * 400, "it is text"),  # the first 512 bytes end within a letter
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is PostScript"),
    ],
)
def test_what_is_no_image_is_named(content, said):
    with pytest.raises(Unreadable) as error:
        decode(content, "dogs/7.jpg")
    assert str(error.value) == f"dogs/7.jpg: not an image: {said}"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_files_are_refused(form, share):
    file = encoded(Image.fromarray(picture(64, 64)), form)
    with pytest.raises(Unreadable) as error:
        decode(file[: int(len(file) * share)], "cut")
    assert str(error.value).startswith("cut: ")


def test_truncated_jpeg_says_so():
    file = encoded(Image.fromarray(picture(64, 64)), "JPEG")
    with pytest.raises(Unreadable, match="cut: truncated: the file ends before the image does"):
        decode(file[: len(file) // 2], "cut")


def test_damaged_png_is_refused():
    file = bytearray(encoded(Image.fromarray(picture(64, 64))))
    file[len(file) // 2] ^= 0xFF
    with pytest.raises(Unreadable, match="damaged: "):
        decode(bytes(file), "damaged")


def bomb(width, height):
    """A few bytes of PNG that claim a huge image."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (12_000, 12_000)])
def test_decompression_bombs_are_refused_by_name(width, height):
    with pytest.raises(Unreadable, match=r"evil\.png: a decompression bomb: .*134,217,728"):
        decode(bomb(width, height), "evil.png")


def test_the_limit_is_the_setting(monkeypatch):
    file = encoded(Image.fromarray(picture(10, 10)))
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    assert decode(file, "a").shape == (3, 10, 10)
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    with pytest.raises(Unreadable, match="10x10 pixels, the limit is 99"):
        decode(file, "a")


def test_large_images_below_the_limit_do_not_warn():
    # 100 million pixels lie above Pillow's own warning; the file is cut, so nothing is decoded
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Unreadable, match="truncated"):
            decode(bomb(10_000, 10_000), "a")


def test_pillow_is_silenced_while_decoding_and_only_then():
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 128, 255])
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [decode(encoded(image, transparency=bytes([255, 0])), "a") for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_the_silence_lasts_until_the_last_one_leaves():
    before = list(warnings.filters)
    with images._quiet:
        with images._quiet:
            pass
        assert list(warnings.filters) != before
    assert list(warnings.filters) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_forked_while_another_thread_decodes_can_decode():
    file = encoded(Image.fromarray(picture()))
    with images._quiet._lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # later Pythons warn of forking with threads
        child = os.fork()
        if not child:
            os._exit(0 if decode(file, "a").shape == (3, 5, 7) else 1)
    for _ in range(500):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.01)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child waits for a lock that nobody in it holds")
    assert status == 0


def test_an_open_file_is_read(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(picture()).save(path)
    with open(path, "rb") as file:
        assert decode(file, "a").shape == (3, 5, 7)


def test_text_chunks_do_not_matter():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 5000)
    assert decode(encoded(Image.fromarray(picture()), pnginfo=info), "a").shape == (3, 5, 7)


def test_a_jpeg_is_decoded_smaller_only_where_enough_is_left():
    file = encoded(Image.fromarray(picture(400, 600)), "JPEG")
    assert decode(file, "a", at_least=50).shape == (3, 100, 150)  # 1/4: the shorter side keeps 2 x 50
    assert decode(file, "a", at_least=51).shape == (3, 200, 300)
    assert decode(file, "a", at_least=300).shape == (3, 400, 600)
    assert decode(encoded(Image.fromarray(picture(400, 600))), "a", at_least=50).shape == (3, 400, 600)


def test_the_smaller_decode_changes_next_to_nothing():
    smooth = np.asarray(Image.fromarray(picture(12, 16)).resize((640, 480), Image.Resampling.BICUBIC))
    file = encoded(Image.fromarray(smooth), "JPEG", quality=95)
    whole, reduced = fit(decode(file, "a"), 64), fit(decode(file, "a", at_least=64), 64)
    assert np.abs(whole.astype(int) - reduced).mean() < 1


def test_grey_becomes_rgb_by_repetition():
    grey = decode(encoded(Image.fromarray(picture(channels=1))), "a")
    colour = to_channels(grey, 3)
    assert colour.shape == (3, 5, 7)
    assert all(np.array_equal(plane, grey[0]) for plane in colour)
    assert colour.transpose(1, 2, 0).flags.c_contiguous


def test_rgb_becomes_grey_as_pillow_does_it():
    pixels = picture(50, 50)
    theirs = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.array_equal(to_channels(pixels.transpose(2, 0, 1), 1)[0], theirs)


def test_same_channels_are_untouched_and_others_refused():
    image = np.zeros((3, 2, 2), np.uint8)
    assert to_channels(image, 3) is image
    with pytest.raises(UserError, match="3 channels cannot be given 4"):
        to_channels(image, 4)


def test_fit_leaves_the_right_size_untouched():
    image = picture(32, 32).transpose(2, 0, 1)
    assert fit(image, 32) is image


@pytest.mark.parametrize(("height", "width"), [(32, 50), (51, 32)])
def test_fit_only_cuts_where_the_shorter_side_is_right(height, width):
    image = picture(height, width).transpose(2, 0, 1)
    top, left = (height - 32) // 2, (width - 32) // 2
    assert np.array_equal(fit(image, 32), image[:, top : top + 32, left : left + 32])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width", "size"), [(60, 88, 30), (88, 60, 30), (20, 28, 30), (50, 50, 20)])
def test_fit_resizes_and_cuts_the_centre(height, width, size, channels):
    pixels = picture(height, width, channels)
    image = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    # the plain way with another library, in two steps: resize the whole antialiased, then cut the middle out
    scale = size / min(height, width)
    new = (round(height * scale), round(width * scale))
    whole = torch.nn.functional.interpolate(
        torch.tensor(image.copy())[None].float(), new, mode="bicubic", antialias=True, align_corners=False
    )[0]
    top, left = (new[0] - size) // 2, (new[1] - size) // 2
    expected = whole[:, top : top + size, left : left + size].clamp(0, 255).round().numpy()
    ours = fit(image, size)
    assert ours.shape == (channels, size, size)
    difference = np.abs(ours - expected)
    assert difference.mean() < 0.5  # Pillow rounds and clips once more, between its two passes
    assert difference.max() <= 16


def test_fit_is_antialiased():
    stripes = np.zeros((1, 256, 256), np.uint8)
    stripes[:, :, ::2] = 255  # one pixel black, one white: grey from afar
    small = fit(stripes, 32)
    assert np.abs(small.astype(int) - 127).max() <= 6  # the border sees one column less


def test_image_names():
    assert all(map(is_image_name, ["a.jpg", "b.JPEG", "c.Png", "d.tiff", "e.webp"]))
    assert not any(map(is_image_name, ["a.txt", "jpg", ".jpg", "a.jpg.part", "a.eps", "a.pdf", "a.svg"]))
