"""What is special about one storage."""
