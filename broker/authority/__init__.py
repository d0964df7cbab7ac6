"""The policy as an HTTP service for brokers of other makers: one judgement, each engine's own request format."""
