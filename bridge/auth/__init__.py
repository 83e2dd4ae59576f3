"""
Who may POST.

    authenticate   Authorization header -> Principal (Basic, Bearer)
    tokens         JSON Web Tokens: issue, verify, and what a client sends to get one
    credentials    the file, and how it is written
    store          the credentials in force, reloaded when the file changes
    manage         create, list, rotate, revoke
"""
