"""How steps compose."""
