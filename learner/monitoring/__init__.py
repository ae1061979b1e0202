"""What is known of the fleet: heard, counted, tested for drift, and shown to Prometheus."""
