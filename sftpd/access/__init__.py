"""Asks keys.credentials whether an address, a user and a credential may come in, and may stay."""
