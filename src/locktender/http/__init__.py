"""What both servers do with a connection: read its request, and answer beside others."""
