"""The operator's tools and the one-machine fleet."""
