"""What is seen on a serial line, as values and as pcapng: records, the recorder that makes them, files, batches."""
