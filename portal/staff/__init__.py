"""The staff site: YSK's own people identify quarantined pages and see the night at a glance."""
