"""What can be said to the `anamnesis` command, a module a group of commands; how it is done stands outside."""
