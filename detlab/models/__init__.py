"""Backbones, feature pyramid, anchors and heads; a detector is a config of `dense.DenseDetector`."""
