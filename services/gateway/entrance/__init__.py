"""The way in for people: the login page, one-time links, sessions of browsers, and how often one may ask.

A session is an API key of the kind `browser`, kept by a cookie: from the door on there is one mechanism.
"""
