"""Checks of results against themselves, each other, the registry and the sheets: they only flag."""
