"""`meshwire learn`: a board's resources, payloads and timing, written down so that the simulator can play them."""
