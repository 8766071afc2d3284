"""Compares results with each other, the registry and the sheets; a finding blocks nothing."""
