"""The services, one package each. They never import one another; they meet on the wire."""
