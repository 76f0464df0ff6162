"""Measures, significance, and how they are told."""
