"""Files of scenes: what is in them, in shards, and drawn by Ray."""
