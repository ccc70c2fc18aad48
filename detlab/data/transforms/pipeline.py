"""The callable a data set is given: augment, resize, and say which boxes are left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from detlab.data.transforms.backend import A, generators, leaves
from detlab.data.transforms.resize import Resize, Unchanged, resize_image

Step: TypeAlias = A.BasicTransform | A.BaseCompose | Resize | Literal["resize"]


class Pipeline:
    """``(image uint8 [H, W, 3], boxes float32 [G, 4], seed) -> (image, boxes [G', 4], keep int64 [G'])``.

    augment: albumentations transforms, run in order. The word ``"resize"`` among them marks where `resize`
    happens (what follows sees network pixels), a `Resize` marks it and replaces `resize`; without either it
    comes last. Evaluation uses a pipeline without `augment`.

    Boxes are xyxy pixels; `keep` numbers the input boxes that are left, in order. Boxes are clipped to the
    picture at the start. One is dropped as soon as a transform leaves less than `min_visibility` of its area
    in view, or if at the end a side is shorter than `min_side` pixels (boxes without area never get through).

    All randomness follows from `seed`, geometry before the resize from a stream of its own: two pipelines that
    begin with the same steps (a weak and a strong view, say) move the boxes of a picture alike. `geometry` tells them:
    where it is the same, so is where each point of a picture goes with the same seed.
    """

    def __init__(
        self,
        augment: Sequence[Step] = (),
        resize: Resize | None = None,
        min_visibility: float = 0.1,
        min_side: float = 1.0,
    ) -> None:
        if not 0 <= min_visibility <= 1:
            raise ValueError(f"Expected min_visibility in 0..1, got {min_visibility}.")
        if min_side <= 0:
            raise ValueError(f"Expected a min_side above 0 pixels, got {min_side}.")
        marks = [i for i, step in enumerate(augment) if isinstance(step, str | Resize)]
        if len(marks) > 1:
            raise ValueError(f"Expected at most one place to resize in a list of transforms, got {len(marks)}.")
        at = marks[0] if marks else len(augment)
        mark = augment[at] if marks else None
        if isinstance(mark, str) and mark != "resize":
            raise ValueError(f"Expected a transform or the word 'resize', got '{mark}'.")
        self.resize = mark if isinstance(mark, Resize) else (resize or Unchanged())
        self.min_visibility, self.min_side = min_visibility, min_side
        self._before = self._compose(augment[:at])
        self._after = self._compose(augment[at + 1 :])
        sides = ", ".join(f"{name}={value}" for name, value in vars(self.resize).items())
        self.geometry = (*_moving(augment[:at]), f"{type(self.resize).__name__}({sides})", *_moving(augment[at + 1 :]))

    def __call__(
        self, image: NDArray[np.uint8], boxes: NDArray[np.float32], seed: int = 0
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        """Raises ValueError for an image that is not uint8 ``[H, W, 3]``. seed: 0 or above."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"Expected a uint8 image [H, W, 3], got {image.dtype} {image.shape}.")
        height, width = image.shape[:2]
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4).clip(0, np.array([width, height] * 2, np.float32))
        # The number of each box rides along as a fifth column: float32 counts exactly up to 2²⁴.
        rows = np.concatenate([boxes, np.arange(len(boxes), dtype=np.float32)[:, None]], 1)
        rows = rows[(boxes[:, 2:] > boxes[:, :2]).all(1)]

        image, rows = self._run(self._before, image, rows, seed, stream=0)
        height, width = image.shape[:2]
        new_height, new_width = self.resize(height, width, np.random.default_rng((seed, 1)))
        image = resize_image(image, new_height, new_width)
        rows[:, :4] *= np.array([new_width / width, new_height / height] * 2, np.float32)
        image, rows = self._run(self._after, image, rows, seed, stream=2)

        height, width = image.shape[:2]
        rows[:, :4] = rows[:, :4].clip(0, np.array([width, height] * 2, np.float32))  # rounding errors
        rows = rows[(rows[:, 2:4] - rows[:, :2] >= self.min_side).all(1)]
        return np.ascontiguousarray(image), np.ascontiguousarray(rows[:, :4]), rows[:, 4].astype(np.int64)

    def _compose(self, transforms: Sequence[Step]) -> A.Compose | None:
        for transform in transforms:
            if not isinstance(transform, A.BasicTransform | A.BaseCompose):
                raise ValueError(f"Expected an albumentations transform, got {transform!r}.")
        singles = leaves(transforms)
        for transform in singles:
            if transform.invalid_args:
                names = ", ".join(transform.invalid_args)
                raise ValueError(f"{type(transform).__name__} has no argument {names}.")
        if not singles:
            return None
        boxes = A.BboxParams(
            format="pascal_voc", clip=True, filter_invalid_bboxes=True, min_visibility=self.min_visibility
        )
        moves = any(isinstance(transform, A.DualTransform) for transform in singles)
        return A.Compose(list(transforms), bbox_params=boxes if moves else None)

    @staticmethod
    def _run(
        compose: A.Compose | None, image: NDArray[np.uint8], rows: NDArray[np.float32], seed: int, stream: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        if compose is None:
            return image, rows
        # One state for all: `set_random_seed` would give every transform the same draws, so that a picture
        # flipped one way would always be flipped the other way too.
        compose.set_random_state(*generators(seed, stream))
        if "bboxes" not in compose.processors:
            return compose(image=image)["image"], rows
        result = compose(image=image, bboxes=rows)
        return result["image"], np.asarray(result["bboxes"], np.float32).reshape(-1, 5)


def _moving(steps: Sequence[Step]) -> list[str]:
    """The steps up to the last that moves points, as text; those between count, as all draw from one stream."""
    last = max((at for at, step in enumerate(steps, 1) if _moves(step)), default=0)
    return [repr(step) for step in steps[:last]]


def _moves(step: Step) -> bool:
    return isinstance(step, A.BasicTransform | A.BaseCompose) and any(
        isinstance(transform, A.DualTransform) for transform in leaves([step])
    )
