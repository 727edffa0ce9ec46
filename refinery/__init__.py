"""Draft in, better prompt out: the engines, the rules and the promise of what survives. No web framework in here."""
