"""`openai-ft`: a client of the API for the terminal. No Django, no torch, no numpy."""
