"""Commands for parties and keys."""
