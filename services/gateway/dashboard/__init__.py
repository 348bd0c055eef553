"""The pages for people: the dashboard, the chat and the way in."""
