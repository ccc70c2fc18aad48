"""What figures of papers share; a paper's own stand in `figures.py` beside its experiments."""
