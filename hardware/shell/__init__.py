"""`meshwire link PORT`: a shell over HDLC to a board, for people and for scripts."""
