"""The pages of the web site, each with the addresses that it answers."""
