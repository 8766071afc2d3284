"""The pages of the staff site, each with the addresses that it answers."""
