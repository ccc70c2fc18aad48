"""The figures of papers, drawn from runs: a module per paper, whose `FIGURES` says how each is made."""
