"""What all sites in a browser have in common: how a page looks, error pages, and the login."""
