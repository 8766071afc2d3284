"""Starts things: the `ssps` command, a module a group, and nothing that the other packages need."""
