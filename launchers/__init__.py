"""How a flow is used: command line, HTTP service, web chat."""
