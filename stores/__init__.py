"""The stores behind `storage.Storage`: one module a driver, imported by the database URL alone."""
