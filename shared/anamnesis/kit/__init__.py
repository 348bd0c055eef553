"""What every service stands on: settings, errors, web app, auth, client, SSE, logging, metrics."""
