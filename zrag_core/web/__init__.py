"""A memory over HTTP: a page to ask, and an API that OpenAI's clients speak."""
