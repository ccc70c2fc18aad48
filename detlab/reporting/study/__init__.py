"""A paper's table as data: rows to train, the paper's numbers, claims, and what one's own runs say of them."""
