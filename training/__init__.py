"""Scripts that make what the package ships and does not compute at run time."""
