"""A file in a watched folder becomes a settled page that this publisher has claimed."""
