"""The benchmark: this service beside peers that do the same work with less care, all in one run."""
