"""What catalog and results database say: sheets, findings, and the history of a box."""
