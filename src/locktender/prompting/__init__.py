"""How chats become prompts, and what in a prompt is a control token and what is text."""
