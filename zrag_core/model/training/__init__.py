"""Training: the skill of policy `separated`, and theta and Z together of policy `joint`."""
