"""Bodies and clouds of points: partners, and the descent from given starts."""
