"""The pure core: RFC 9293's transitions as data, what follows from evidence. No clock, no I/O."""
