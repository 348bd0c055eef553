"""Pages, and the programs that make those which can be read off the code."""
