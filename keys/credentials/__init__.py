"""Who may log in: rings of credentials, their rotation, public keys and FIDO tokens."""
