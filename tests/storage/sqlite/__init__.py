"""SQLiteStorage and its parts."""
