"""What other processes and the feed read of the catalog, over connections of their own."""
