"""
A stand-in for OpenRouter: a real HTTP server with money, models and faults.

It is a process of its own and shares no code with the rest of this repository,
so that a mistake in our client cannot hide behind the same mistake here.
"""
