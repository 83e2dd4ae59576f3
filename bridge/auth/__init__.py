"""Who may POST: credentials, Basic and Bearer."""
