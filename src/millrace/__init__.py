"""millrace: compose LLM applications as flows that stream, stop and give their memory back."""
