"""Steps that own a resource: models, prompts, tools, remote flows."""
