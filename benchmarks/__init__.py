"""What `make bench` measures: each file with a `run()` is one part of the table."""
