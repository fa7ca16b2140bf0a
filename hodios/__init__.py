"""Hodios: serve open-weight language models and route to everybody else who serves them."""

__version__ = "0.1.0"
