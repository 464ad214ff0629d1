"""Rankings of candidates, one file each."""
