"""What goes over a serial line, made visible: taps, pcapng files, lines for people, Wireshark."""
