"""The web service: results as JSON, for a party's programs."""
