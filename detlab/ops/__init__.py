"""Pure functions of tensors: boxes, matching, the interval coder."""
