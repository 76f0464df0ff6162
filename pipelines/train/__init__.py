"""Learning from what a team has: examples in, a model with its card and a verdict out."""
