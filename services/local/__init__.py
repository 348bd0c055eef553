"""The services on one machine without containers: started, watched and stopped together."""
