"""The commands: every one parses, makes one call into a room, and prints. Heavy imports stay inside them."""
