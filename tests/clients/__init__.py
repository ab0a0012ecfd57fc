"""OpenAI's own clients against a running site, each version in a venv of its own."""
