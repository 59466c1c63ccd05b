"""What flows through tcpwatch: identities, events, timelines, recordings. Values only, no I/O."""
