"""What a run says, and how it travels: errors, sessions, runs, events, messages, queues."""
