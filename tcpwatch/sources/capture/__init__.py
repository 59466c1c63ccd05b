"""Capture files as a witness: from a file's octets to the segments that crossed the wire."""
