"""What both servers need of HTTP, once: who may come in, how many, and how bodies are read."""
