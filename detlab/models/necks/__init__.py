"""Necks: from a backbone's feature maps to a pyramid."""
