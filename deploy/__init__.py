"""What `deploy.sh` calls: shell functions for Compose, and the tool that keeps `.env`."""
