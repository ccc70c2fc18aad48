"""The only place where picture files are opened.

Pillow decodes; sizes and pixels are both given as a viewer shows them (EXIF orientation applied), since that
is what annotators saw.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from detlab.errors import UserError

MAX_PIXELS = 100_000_000
# Of files that are taken for pictures where a folder holds other things, too.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"})
# Named, since Pillow would otherwise also hand PostScript files to an interpreter.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) of a picture, from its header alone.

    Raises UserError: missing, not a picture, damaged header, or more than 100 megapixels.
    """
    with _opened(path) as image:
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The pixels of a picture, uint8 RGB ``[H, W, 3]``.

    Grey, palette and CMYK pictures are converted, transparency is dropped, 16-bit grey keeps its upper byte.
    Raises UserError: missing, not a picture, truncated or damaged, or more than 100 megapixels by its header
    (then nothing is decoded).
    """
    with _opened(path) as image:
        turn = _TURNS.get(_orientation(image))
        if image.mode.startswith("I;16") or image.mode == "I":
            # Pillow would clip at 255 instead of scaling.
            picture = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        else:
            picture = image
        picture = picture.convert("RGB")
        return np.array(picture if turn is None else picture.transpose(turn))


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{width} x {height}")
            yield image
    except FileNotFoundError:
        raise UserError(f"{path}: no such image file.") from None
    except IsADirectoryError:
        raise UserError(f"{path}: expected an image file, got a folder.") from None
    except PermissionError:
        raise UserError(f"{path}: no permission to read this image file.") from None
    except Image.DecompressionBombError:
        raise UserError(
            f"{path}: the header claims over {MAX_PIXELS // 1_000_000} megapixels; scale the picture down."
        ) from None
    except UnidentifiedImageError:
        kind = "empty file" if os.path.getsize(path) == 0 else "file"
        raise UserError(f"{path}: this {kind} is not a picture of a known type ({', '.join(_FORMATS)}).") from None
    except Exception as error:  # on damaged files Pillow's decoders raise a dozen unrelated kinds
        raise UserError(f"{path}: cannot decode this picture, it is damaged or cut short ({error}).") from error


def _orientation(image: Image.Image) -> int:
    # Only where the header has it: asking Pillow regardless would decode a whole PNG.
    return int(image.getexif().get(_ORIENTATION, 1)) if "exif" in image.info else 1
