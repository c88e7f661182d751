"""Which known mistake makes this wrong gradient."""
