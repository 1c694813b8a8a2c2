"""What of a run may be handed on, as a folder in forms that other tools check."""
