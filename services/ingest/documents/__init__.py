"""Documents that are handed in: uploaded, or fetched from an address that is allowed."""
