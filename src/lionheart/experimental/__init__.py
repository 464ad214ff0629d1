"""What is not settled: packages here may change or go between versions."""
