"""Chat: messages to prompt tokens, and answers to text, thoughts and tool calls."""
