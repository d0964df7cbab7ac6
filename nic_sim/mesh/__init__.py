"""A self-healing mesh of simulated NICs: who hears whom, what a hop costs, who finds which new way, in virtual time.

Everything here is pure: one seed, one made-up clock (`agenda.py`), no socket and no sleep. `simulation.py` puts a
scenario together; who stands for the gateway is handed in.
"""
