"""The decision log: every decision becomes an event in a local SQLite file, from where others ship it to a database."""
