"""The routes, one file a family. Each module makes its blueprint from the collaborators it is handed."""
