"""ResNet-20 (He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2) with a spatial pyramid at its end."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detlab.proxy_classifier.pyramid import Pooling, SpatialPyramidPooling

STAGES = (16, 32, 64)  # channels
BLOCKS = 3  # per stage: 1 + 3 · 3 · 2 convolutions and the output make 20 layers
SMALLEST = 8  # pixels a side


class ResNet20(nn.Module):
    """``[N, 3, h, w]`` → logits ``[N, outputs]``, h and w of at least 8 pixels and else free.

    The paper's net for CIFAR: three stages of three basic blocks, batch norm, a stride of 2 from stage to stage. Ours
    differs in two things: a pyramid of `levels` × `levels` cells takes the place of the global average (that is how
    it reads crops of any size), and where channels grow the shortcut is a 1 × 1 convolution (their option B; A pads
    with zeros). width: channels over the paper's 16, 32 and 64.

    Raises ValueError for a width that leaves no channel.
    """

    def __init__(
        self, outputs: int, width: float = 1.0, levels: Sequence[int] = (1, 2, 4), pooling: Pooling = "max"
    ) -> None:
        super().__init__()
        channels = [round(width * stage) for stage in STAGES]
        if channels[0] < 1:
            raise ValueError(f"Expected a width that leaves at least one channel of {STAGES[0]}, got {width}.")
        self.stem = nn.Sequential(*_convolution(3, channels[0], 3, 1), nn.ReLU(inplace=True))
        blocks: list[nn.Module] = []
        before = channels[0]
        for stage, after in enumerate(channels):
            for block in range(BLOCKS):
                blocks.append(BasicBlock(before, after, stride=2 if stage and not block else 1))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.pyramid = SpatialPyramidPooling(levels, pooling)
        self.output = nn.Linear(before * self.pyramid.cells, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)

    def forward(self, crops: Tensor) -> Tensor:
        if min(crops.shape[-2:]) < SMALLEST:
            raise ValueError(f"Expected crops of at least {SMALLEST} pixels a side, got {list(crops.shape)}.")
        return self.output(self.pyramid(self.blocks(self.stem(crops))))


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(before, after, 3, stride), nn.ReLU(inplace=True), *_convolution(after, after, 3, 1)
        )
        same = before == after and stride == 1
        self.shortcut: nn.Module = nn.Identity() if same else nn.Sequential(*_convolution(before, after, 1, stride))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.shortcut(x))


def _convolution(before: int, after: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(after)
