"""Static pages of a study: what there is, how to see it, how to get it."""
