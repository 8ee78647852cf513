"""Fields about posed bodies: rays cast through the space around them, and what a place in it looks like."""
