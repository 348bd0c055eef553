"""The night: once a local day all is read, summarised and consolidated, by one instance alone."""
