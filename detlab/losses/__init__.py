"""Losses: pure functions of tensors first, thin modules around them, one criterion that adds them up.

Every module is called with a `Matched`: a classification loss returns an unnormalised sum, a localisation or quality
loss one value per positive.
"""
