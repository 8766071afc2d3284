"""Commands for parties, credentials and server keys."""
