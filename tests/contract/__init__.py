"""The contract that every storage fulfils."""
