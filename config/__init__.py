"""What is agreed before polling day: the nouns of the trade, and the files that state them."""
