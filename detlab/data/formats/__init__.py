"""Annotation formats: readers and writers side by side."""
