"""What was concluded, drawn: ladder, summary, JSON, pcapng. Views conclude nothing."""
