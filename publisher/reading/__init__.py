"""Reads karekods from the bytes of a page, in sandboxed worker processes."""
