"""What the service does with a request, from wherever it came: HTTP, the command line, a queue. No Flask in it."""
