"""What to do about objects that nobody labelled: one treatment per file, chosen by ``conf/pseudo/``."""
