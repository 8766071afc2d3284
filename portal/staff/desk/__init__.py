"""The desk: the review of quarantined pages in a browser, by two people."""
