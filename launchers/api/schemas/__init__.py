"""The OpenAPI document: each endpoint describes itself, in a file of its own, and `documents.py` joins them.

A new endpoint gets a file with `describe_<noun>(components)`, which returns its paths, and a line in `documents.py`.
"""
