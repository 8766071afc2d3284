"""Builds the Debian package and lists its parts."""
