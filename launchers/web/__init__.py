"""The web chat's parts: its page, its tabs and conversations, and how a turn is shown."""
