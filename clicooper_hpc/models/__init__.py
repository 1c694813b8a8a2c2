"""Networks that can be cut anywhere: each one is a flat ``nn.Sequential``."""
