"""The floor for a start of a server: the MCP SDK on stdio with one tool that does nothing."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("floor", version="1")


@server.tool()
def nothing() -> str:
    """Do nothing."""
    return "ok"


server.run("stdio")
