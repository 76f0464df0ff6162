"""Commands as jobs of a cluster: what travels, under which name, and how a job is followed."""
