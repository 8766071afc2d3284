"""Asks the rules of admission (keys/credentials/admission) for the server and its live sessions."""
