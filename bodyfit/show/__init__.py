"""Looking at results: the folder that a fit wrote, read back; a page to send around; a live viewer."""
