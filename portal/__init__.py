"""The web site and the web service: what the parties read with a browser or as JSON."""
