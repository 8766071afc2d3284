"""Credentials, signatures and ledgers: they prove who logged in and what was filed and served."""
