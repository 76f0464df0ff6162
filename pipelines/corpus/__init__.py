"""Documents in, chunks with ids out, and what has to change."""
