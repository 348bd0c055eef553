"""The trainers of this platform as the gateway uses them: generation with failover, and how they are."""
