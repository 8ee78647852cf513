"""The surface over a scan: vertex offsets, their losses, and the colours baked onto them."""
