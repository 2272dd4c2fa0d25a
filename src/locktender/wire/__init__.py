"""What crosses a socket: OpenAI bodies, server-sent events, error bodies."""
