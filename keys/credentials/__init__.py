"""Who may come in: key rings, rotation, public keys."""
