"""The pure core: RFC 9293's transitions as data, and what follows from evidence. No clock, no I/O."""
