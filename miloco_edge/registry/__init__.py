"""Model references: from an alias, a file, a folder or a hub repository to a verified pair."""
