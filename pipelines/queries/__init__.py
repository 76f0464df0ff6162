"""Query logs in; candidates, scores and rankings out."""
