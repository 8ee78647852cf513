"""Assembly of the normal equations: by torch on any device, and by compiled loops on a CPU; both for any residual."""
