"""Applies the rules of admission (keys/credentials/admission) to logins and live sessions."""
