"""The app layer: LangChain runnables as HTTP services, and a chat model that reaches ours."""
