"""What several commands need: the console, times, requests, the signer process."""
