"""Chats: turns that answer, the tools in them, and what a page shows of both."""
