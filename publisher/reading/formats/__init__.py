"""Checks a JPEG, PNG, TIFF or PDF, and decodes its pages to grey pictures."""
