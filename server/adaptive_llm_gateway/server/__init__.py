"""Hub, shim, MCP tools and command line. May import every component; only this one reads configuration."""

__all__: list[str] = []
