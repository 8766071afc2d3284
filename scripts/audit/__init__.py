"""`ssps audit`: reads, proves and reports the record."""
