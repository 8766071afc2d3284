"""The entries of the daemons, and their supervisor."""
