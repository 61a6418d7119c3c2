"""What the heads did at each token, made visible."""
