"""Several processes that train one detector: where each stands, how they begin, agree and end together."""
