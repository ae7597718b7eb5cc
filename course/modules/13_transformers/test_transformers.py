"""Hidden variants of module 13."""
