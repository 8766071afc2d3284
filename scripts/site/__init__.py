"""Commands that create and check a site."""
