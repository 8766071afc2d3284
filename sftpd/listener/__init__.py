"""Accepts connections, and reads the PROXY headers of balancers."""
