"""A recorded session played again: at a board as the NIC, at a NIC as the board; what differs is the result."""
