"""The reference sensor board: a CoAP server behind a UART, in the shape of three real boards (`sensor_sim.board`)."""
