"""Measurements beside other servers. Nothing here is part of the package, and nothing in the package knows of it."""
