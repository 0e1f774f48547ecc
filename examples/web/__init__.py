"""The page of examples/app.py: what it serves, and what it keeps out."""
