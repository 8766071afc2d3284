"""What operators decided: pages in quarantine, requests to scan again, sheets that never arrive."""
