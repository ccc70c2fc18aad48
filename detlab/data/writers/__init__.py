"""Labels as data sets that annotation tools read: one format per file, pictures as links."""
