"""The web site and the web service for the parties, and the staff site for YSK's own people."""
