"""What `make study` and its like produce: the tables and figures of the docs."""
