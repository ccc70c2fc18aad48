"""Losses: pure functions of tensors first, thin modules around them, one criterion that adds them up.

A classification loss is called with ``(logits, labels, class_weights, class_targets)`` and returns a sum; a
localisation or quality loss is called with a `Matched` and returns one value per positive.
"""
