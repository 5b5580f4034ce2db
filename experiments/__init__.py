"""Pure statistics: who is assigned to what."""
