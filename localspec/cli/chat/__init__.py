"""The interactive chat: input line, slash commands, session and transcript."""
