"""`anamnesis connect`: writes memory into the configuration of other programs, and takes it out again."""
