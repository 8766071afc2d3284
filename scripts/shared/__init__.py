"""What several commands need: console, changes, requests, times, signer process, log."""
