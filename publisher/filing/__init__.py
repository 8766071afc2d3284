"""Decides on each file that was read, then stores, links and records it."""
