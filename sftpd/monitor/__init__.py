"""The parent process: decides on logins, records, enforces limits, and reaps the sessions."""
