"""All that touches Lance: the table, what is staged for it, and what readers see."""
