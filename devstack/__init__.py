"""The local stack: the servers and this project's own processes, without Docker and without root."""
