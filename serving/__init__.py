"""Gateway, mailbox, policies, bus, workers, enricher, decoy, journal, replay."""
