"""Commands that run the daemons."""
