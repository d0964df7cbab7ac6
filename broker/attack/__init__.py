"""The isolation proof: as one tenant, everything is tried to see or touch another tenant's data."""
