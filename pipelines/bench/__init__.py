"""The benchmark: what a machine does in both stages and whole jobs, beside other libraries."""
