"""Pictures of every kind and every kind of damage."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detlab.data.image import image_size, read_image
from detlab.errors import UserError


def picture(width: int = 30, height: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_header(width: int, height: int) -> bytes:
    """A PNG that only claims its size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_lossless_pictures_come_back_exactly(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(picture()).save(tmp_path / f"x.{suffix}")
    pixels = read_image(tmp_path / f"x.{suffix}")
    np.testing.assert_array_equal(pixels, picture())
    assert pixels.flags.writeable
    assert image_size(tmp_path / f"x.{suffix}") == (30, 20)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "LA"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    image.save(path)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png")[..., 0], (values >> 8).astype(np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_and_pixels_are_as_a_viewer_shows_them(tmp_path: Path, orientation: int) -> None:
    corner = np.zeros((20, 30, 3), np.uint8)
    corner[:5, :5] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(corner).save(tmp_path / "x.png", exif=exif)
    pixels = read_image(tmp_path / "x.png")
    assert image_size(tmp_path / "x.png") == (pixels.shape[1], pixels.shape[0])
    assert pixels.shape[:2] == ((20, 30) if orientation < 5 else (30, 20))
    # Where the EXIF standard puts the stored row 0 and column 0.
    bottom, right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    patch = pixels[-5:] if bottom else pixels[:5]
    assert (patch[:, -5:] if right else patch[:, :5]).min() == 255


@pytest.mark.parametrize("look", [image_size, read_image])
def test_bad_files_are_named(tmp_path: Path, look: object) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "drawing.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    (tmp_path / "huge.png").write_bytes(png_header(50_000, 50_000))
    (tmp_path / "large.png").write_bytes(png_header(10_001, 10_001))
    for name, message in {
        "missing.jpg": "no such image file",
        "text.jpg": "not a picture of a known type",
        "empty.jpg": "empty file",
        "drawing.png": "not a picture of a known type",
        "huge.png": "over 100 megapixels",
        "large.png": "over 100 megapixels",
        ".": "got a folder",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            look(tmp_path / name)  # type: ignore[operator]
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_pictures_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(picture(200, 150)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=rf"x\.{suffix}"):
        read_image(path)


def test_flipped_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for suffix in ("jpg", "png", "webp", "gif", "tif"):
        path = tmp_path / f"x.{suffix}"
        Image.fromarray(picture(64, 48)).save(path)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            at = rng.integers(0, min(len(whole), 400), 5)
            damaged[at] = rng.integers(0, 256, 5)
            path.write_bytes(damaged.tobytes())
            with contextlib.suppress(UserError):
                assert read_image(path).ndim == 3
