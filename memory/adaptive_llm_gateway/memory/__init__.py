"""Typed memory: Markdown files in git, a derived index, search and sync. May import `core` only."""
