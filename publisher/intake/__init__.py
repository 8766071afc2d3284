"""Finds files in the watched folders, waits until they are complete, and claims them."""
