"""Bodies before depth cameras."""
