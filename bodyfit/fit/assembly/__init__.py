"""From residuals to normal equations: in torch on any device, and in compiled loops on a CPU. Neither knows a term."""
