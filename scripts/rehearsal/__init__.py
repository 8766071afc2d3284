"""A synthetic election to try everything on: printed sheets, scans, mirroring clients, the demo."""
