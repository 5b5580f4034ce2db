"""What was asked and answered: decoy, journal, events, and their replay."""
