"""Elects the publisher that files, and the process that takes in results, among several hosts."""
