"""`ssps ballot` and `ssps results`: the options of each contest, and the boards' numbers."""
