"""The operator's commands, as part of Flask's own command line. Results go to standard output, the rest to error."""
