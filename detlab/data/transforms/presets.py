"""Named augmentations. Each returns the transforms of a `Pipeline`, which says how they are read."""

from __future__ import annotations

from collections.abc import Sequence

from detlab.data.transforms.backend import A
from detlab.data.transforms.colours import Cutout, PhotometricDistort
from detlab.data.transforms.pipeline import Step
from detlab.data.transforms.resize import Fixed, Shortest
from detlab.data.transforms.windows import MinIoUCrop, Zoom, ZoomOut


def none() -> list[Step]:
    """The picture as it is."""
    return []


def flip(horizontal: float = 0.5, vertical: float = 0.0, transpose: float = 0.0) -> list[Step]:
    """Mirror with the given probabilities; all three at 0.5 give each of the square's 8 symmetries equally often."""
    steps: list[Step] = []
    for kind, p in ((A.HorizontalFlip, horizontal), (A.VerticalFlip, vertical), (A.Transpose, transpose)):
        if not 0 <= p <= 1:
            raise ValueError(f"Expected a probability in 0..1, got {p}.")
        if p:
            steps.append(kind(p=p))
    return steps


def ssd(size: tuple[int, int] = (512, 512), horizontal: float = 0.5, zoom_out: float = 4.0) -> list[Step]:
    """SSD's data augmentation (Liu et al. 2016), with which AP Loss and aLRP Loss train: distort the colours,
    zoom out on a canvas of the mean colour, crop by minimum IoU, flip, resize to `size` (height, width)."""
    return [PhotometricDistort(), ZoomOut(zoom_out), MinIoUCrop(), *flip(horizontal), Fixed(size)]


def multiscale(
    sizes: Sequence[int] = (640, 672, 704, 736, 768, 800), max_size: int = 1333, horizontal: float = 0.5
) -> list[Step]:
    """Flip, then the shorter side at one of `sizes` per picture, the longer at most `max_size`."""
    return [*flip(horizontal), Shortest(sizes, max_size)]


def weak(
    horizontal: float = 0.5,
    vertical: float = 0.0,
    transpose: float = 0.0,
    zoom: tuple[float, float] = (1, 1),
    sizes: Sequence[int] | None = None,
    max_size: int = 1333,
) -> list[Step]:
    """What the teacher of a semi-supervised pair sees: a flip.

    More, where there are few labels or sizes vary: vertical, transpose and zoom as in `scratch`, sizes and max_size as
    in `multiscale`.
    """
    return [*_moved(horizontal, vertical, transpose, zoom), "resize" if sizes is None else Shortest(sizes, max_size)]


def strong(
    horizontal: float = 0.5,
    jitter: float = 0.8,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    blur: float = 0.5,
    sigma: tuple[float, float] = (0.1, 2.0),
    cutout: float = 0.7,
    vertical: float = 0.0,
    transpose: float = 0.0,
    zoom: tuple[float, float] = (1, 1),
    sizes: Sequence[int] | None = None,
    max_size: int = 1333,
) -> list[Step]:
    """What the student sees: a flip, then in network pixels colour jitter, Gaussian blur and Cutout.

    jitter, blur, cutout: their probabilities. brightness … hue: strengths as in torchvision's ColorJitter.
    sigma: of the blur, pixels. The rest as in `weak`: where it is the same, so is what the same seed does to it.
    """
    for name, value, most in (("brightness", brightness, 1), ("contrast", contrast, 1), ("hue", hue, 0.5)):
        if not 0 <= value <= most:
            raise ValueError(f"Expected {name} in 0..{most}, got {value}.")
    if not 0 <= saturation <= 1:
        raise ValueError(f"Expected saturation in 0..1, got {saturation}.")
    return [
        *weak(horizontal, vertical, transpose, zoom, sizes, max_size),
        A.ColorJitter(
            brightness=(1 - brightness, 1 + brightness),
            contrast=(1 - contrast, 1 + contrast),
            saturation=(1 - saturation, 1 + saturation),
            hue=(-hue, hue),
            p=jitter,
        ),
        A.GaussianBlur(blur_limit=0, sigma_limit=sigma, p=blur),
        Cutout(p=cutout),
    ]


def scratch(
    horizontal: float = 0.5,
    vertical: float = 0.0,
    transpose: float = 0.0,
    zoom: tuple[float, float] = (0.7, 1.4),
    colour: float = 0.5,
) -> list[Step]:
    """For small data trained from nothing: flips, zoom in or out at a random place, light colour jitter.

    zoom: range of the factor, (1, 1) for none. colour: strength of the jitter as a fraction of SSD's, 0 for none.
    """
    if not 0 <= colour <= 1:
        raise ValueError(f"Expected a colour strength in 0..1, got {colour}.")
    steps = [*_moved(horizontal, vertical, transpose, zoom), "resize"]
    if colour:
        steps.append(PhotometricDistort(32 * colour, 0.5 * colour, 0.5 * colour, 18 * colour))
    return steps


def _moved(horizontal: float, vertical: float, transpose: float, zoom: tuple[float, float]) -> list[Step]:
    steps = flip(horizontal, vertical, transpose)
    return steps if tuple(zoom) == (1, 1) else [*steps, Zoom(zoom)]
