"""The web site for the parties: pages in Turkish, which work without script."""
