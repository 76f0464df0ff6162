"""Models by name or folder, token-budget batches, and the two of them that compute."""
