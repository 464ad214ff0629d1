"""Rankings, i.e. orders in which a run tries to move projections (weight matrices) to tiles; one module for each ranking."""
