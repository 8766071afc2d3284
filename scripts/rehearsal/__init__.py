"""A synthetic election: sheets, scans, clients, and the demo."""
