"""The server: the OpenAI and Anthropic interfaces in front of the engines of this machine."""
