"""Readers: a file a format, each yielding documents and rejects."""
