"""GPU hours of a training run from its FLOPs: one published training time, and published ratios between GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

# RetinaNet R50-FPN 1x: seconds per iteration of 16 images on 8 V100s in 32 bits, 41 V100 hours in 90,000 iterations.
REFERENCE_ADDRESS = "https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md"
REFERENCE_SECONDS, REFERENCE_IMAGES, REFERENCE_GPUS = 0.205, 16, 8
# Of the same network here (scale=paper), forward and backward.
REFERENCE_FLOPS_PER_PIXEL = 1.327e6
# It trains at shorter sides of 640 to 800: 0.70 million pixels in the mean where pictures are 4 : 3, 0.75 after
# padding pairs of like orientation.
REFERENCE_PIXELS = 0.75e6

V100_FLOPS = (  # per second, as that training reached them
    REFERENCE_FLOPS_PER_PIXEL * REFERENCE_PIXELS * REFERENCE_IMAGES / (REFERENCE_GPUS * REFERENCE_SECONDS)
)

SMALLEST_ITERATION = 1e12  # FLOPs; a tenth of a second on a V100


class Precision(NamedTuple):
    """Dense peak in FLOP/s, training speed as a multiple of a V100's in 32 bits, and the factor by which an estimate
    may be off either way: a guess, larger where the speed is a ratio from other detectors."""

    peak: float
    speed: float
    factor: float = 2.0

    @property
    def flops(self) -> float:
        """Per second, as detectors in training reach them."""
        return V100_FLOPS * self.speed

    @property
    def utilisation(self) -> float:
        return self.flops / self.peak


@dataclass(frozen=True)
class GPU:
    """full: trainer.precision=32-true (TF32 where there is such a thing, as PyTorch convolves); mixed: 16-mixed or
    bf16-mixed."""

    name: str
    full: Precision
    mixed: Precision

    def precision(self, name: str) -> Precision:
        """That of `trainer.precision`."""
        return self.mixed if str(name).startswith(("16", "bf16")) else self.full


# Speeds: geometric means of two detectors that NVIDIA trained on both chips (relative to a V100 in 32 bits), SSD300 R50
# (V100 107.2 images/s, mixed 296.8; A100 364.3, mixed 662.9;
# https://github.com/NVIDIA/DeepLearningExamples/blob/master/PyTorch/Detection/SSD/README.md) and Mask R-CNN R50
# (V100 11.37 h, mixed 9.01; A100 4.81 h, mixed 3.77;
# https://catalog.ngc.nvidia.com/orgs/nvidia/resources/mask_r_cnn_for_tensorflow2/performance). H100 over A100: 1.85, as
# ResNet-50 in MLPerf 3.0 on 16 of each (14.4 and 7.8 minutes;
# https://silvertonconsulting.com/2023/07/12/mlperf-results-show-h100-v-a100-and-v-habana-gaudi2-gpus/).
GPUS = (
    GPU("V100", Precision(15.7e12, 1.0, factor=1.5), Precision(125e12, 1.87)),
    GPU("A100", Precision(156e12, 2.83), Precision(312e12, 4.32)),
    GPU("H100", Precision(495e12, 2.83 * 1.85), Precision(989e12, 4.32 * 1.85)),
)


def gpu_hours(flops_per_image: float, images_per_iteration: int, iterations: int, flops_per_second: float) -> float:
    """Hours of one GPU for a whole training; over several GPUs the same in sum, what they lose by waiting aside."""
    return flops_per_image * images_per_iteration * iterations / flops_per_second / 3600


def estimates(
    flops_per_image: float, images_per_iteration: int, iterations: int, precision: str
) -> dict[str, dict[str, float]]:
    """Hours by GPU, with the lowest and the highest that its uncertainty allows. precision: `trainer.precision`.

    Empty for iterations too small to fill a GPU, whose time is not in the FLOPs.
    """
    found: dict[str, dict[str, float]] = {}
    if flops_per_image * images_per_iteration < SMALLEST_ITERATION:
        return found
    for gpu in GPUS:
        part = gpu.precision(precision)
        hours = gpu_hours(flops_per_image, images_per_iteration, iterations, part.flops)
        found[gpu.name] = {"hours": hours, "low": hours / part.factor, "high": hours * part.factor}
    return found


def assumptions() -> dict[str, object]:
    """What the estimates rest on, for the record."""
    return {
        "hours": "FLOPs per image × images per iteration × iterations / (peak FLOP/s × utilisation)",
        "flops": "convolutions and matrix products, forward and backward; a multiply-add counts as two",
        "left_out": "evaluation, loading of pictures, waiting of one GPU for another",
        "reference": {
            "what": "RetinaNet R50-FPN 1x of Detectron2",
            "address": REFERENCE_ADDRESS,
            "seconds_per_iteration": REFERENCE_SECONDS,
            "images_per_iteration": REFERENCE_IMAGES,
            "gpus": REFERENCE_GPUS,
            "pixels_per_image": REFERENCE_PIXELS,
            "flops_per_pixel": REFERENCE_FLOPS_PER_PIXEL,
        },
        "gpus": {
            gpu.name: {
                name: {
                    "peak_flops": precision.peak,
                    "speed_over_v100_in_32_bits": round(precision.speed, 3),
                    "utilisation": round(precision.utilisation, 3),
                    "uncertainty_factor": precision.factor,
                }
                for name, precision in (("32-true", gpu.full), ("mixed", gpu.mixed))
            }
            for gpu in GPUS
        },
    }
