"""The HTTP service's parts: requests, admission to the body's last byte, replies, disconnects, readiness."""
