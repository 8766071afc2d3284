"""What the portal shows: results, sheets, changes, gaps and findings, each within one scope."""
