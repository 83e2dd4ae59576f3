"""For operators: doctor, dead letters, tail."""
