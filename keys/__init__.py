"""What proves the agreement: credentials, signatures and the record."""
