"""The commands: each reads a configuration, calls one flow, prints, and ends with an exit code."""
