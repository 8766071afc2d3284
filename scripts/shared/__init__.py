"""What several commands need: console, changes, requests, signer process, log."""
