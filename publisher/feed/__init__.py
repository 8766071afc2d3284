"""What parties mirror by: change feed, sums, BENIOKU.txt, and the BagIt export."""
