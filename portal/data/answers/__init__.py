"""What the portal shows, made from rows that are in scope: boxes, places, aggregates, changes."""
