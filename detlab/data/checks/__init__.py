"""What `detlab check` finds in annotations: problems, and the checks that find them."""
