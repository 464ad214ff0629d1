"""Orders in which a run tries its candidates, one file each."""
