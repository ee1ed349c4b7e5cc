"""One file a hot path; each prints its ratio to a peer or limit that was measured in the same run."""
