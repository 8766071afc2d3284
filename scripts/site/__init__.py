"""Commands that lay out and check a site."""
