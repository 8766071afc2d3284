"""Request forms: which party asks for which services, and what the site has in force."""
